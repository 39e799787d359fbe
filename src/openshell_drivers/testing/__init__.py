"""For tests and for trying out: what stands on the other side of a driver's socket."""
