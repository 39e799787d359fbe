"""Which method of which gRPC service goes to which coroutine of a driver: a module per service."""
