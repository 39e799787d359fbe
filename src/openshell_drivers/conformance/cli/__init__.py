"""The commands: `verify`, `init`, `diff`, `sweep`."""
