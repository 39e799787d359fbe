"""The checks, a module per topic. Importing one registers its checks."""
