"""The Kubernetes API: pods that come and go, scales, the lease of whoever leads. Alone imports `kubernetes`."""
