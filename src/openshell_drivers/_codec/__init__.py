"""Domain to wire and back, a module per service. The only readers of `_wire` beside `_services`."""
