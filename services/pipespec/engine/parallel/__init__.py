"""One model over several processes: tensor parallelism by transformers, led by one rank.

Rank 0, the *leader*, is the stage: it owns the bus, the core and the loop. It tells every call of its engine to the other
ranks, the *followers*, which make the same call at the same time; inside the forward pass the ranks exchange partial
results. Invariant: every rank makes the same calls in the same order, so that all of them hold the same sessions.
"""
