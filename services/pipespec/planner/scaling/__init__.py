"""Decides how many replicas every stage should have, all stages together. No I/O, no clock: ``Scaler`` is told the time."""
