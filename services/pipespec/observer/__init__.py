"""Looks at a running pipeline from the bus, without being part of it."""
