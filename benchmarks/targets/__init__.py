"""The processes that are measured: each a script that is run by its path, like a console script."""
