"""Benchmarks of whole pipelines, run through the real services."""
