"""The clauses that the suite holds drivers to, one TOML file per topic, and what none covers.

`openshell_drivers.conformance._clauses` reads and checks them, and says what each key means.
"""
