"""The processes that are measured: scripts that are run by their path, like a console script, and
modules that share a pretended backend."""
