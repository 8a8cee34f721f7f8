"""One model, one machine, the same prompts: our engine and chain beside what transformers offers.

The parent plans, compares token ids and draws; every contender works in a fresh process of its own (``worker``). Only
modules that a worker imports by name know torch, so the parent stays small and its memory is nobody's.
"""
