"""Tests of the suite's fronts: pytest and the command line, in processes of their own."""
