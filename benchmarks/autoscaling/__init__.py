"""Compares the autoscaler with Kubernetes' HPA on a simulated fleet: whole days of sessions in seconds."""
