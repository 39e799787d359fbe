"""Serve `Memory` as a process: ``python -m tests.compute.serve SOCKET``."""

from __future__ import annotations

import sys

from openshell_drivers.reference.memory import Memory, MemoryConfig
from openshell_drivers.server import run

if __name__ == "__main__":
    sys.exit(run(Memory(MemoryConfig()), socket=sys.argv[1]))
