"""What every process needs around its work: errors, settings, logs, metrics, health, life cycle."""
