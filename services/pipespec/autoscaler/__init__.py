"""The autoscaler service: reads the fleet, decides the replicas of all stages together, patches their scale."""
