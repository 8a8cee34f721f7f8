"""``pipespec deploy``: the chart's rendering of a values file, and what the planner says of it."""
