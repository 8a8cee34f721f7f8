"""Stages without models: how long a step takes, and what is said. No I/O, no torch."""
