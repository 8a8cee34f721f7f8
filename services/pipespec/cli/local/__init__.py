"""A whole pipeline on this machine: its default, its ports, its run folder, its processes."""
