"""The reference driver on its own: ``memory.py --socket SOCKET``."""

from __future__ import annotations

from openshell_drivers.cli import driver_main
from openshell_drivers.reference.memory import Memory

if __name__ == "__main__":
    driver_main(Memory)
