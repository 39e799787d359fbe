"""Tests of openshell_drivers, importable so that they can share their helpers."""
