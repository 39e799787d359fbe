"""``python -m openshell_drivers``: the same as ``openshell-drivers``."""

from openshell_drivers.cli import main

if __name__ == "__main__":
    main()
