"""Discrete events over the protocol core that the services run: virtual time, any number of nodes."""
