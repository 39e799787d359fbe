"""Drivers that need nothing but this package, written on its public names only.

`memory` has all three services and pretends; `process` runs sandboxes as local processes. Neither
isolates anything: they are for development, for tests, and to read.
"""
