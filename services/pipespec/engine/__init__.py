"""Models: the only place that knows torch and transformers, and the drafts that need neither."""
