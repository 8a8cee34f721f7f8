"""Half an hour of faults: what `benchmarks/soak.py` runs."""
