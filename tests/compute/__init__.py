"""Tests of the server half of `ComputeDriver`: the board, the lifecycle, the guards, the watch."""
