"""What is said on the bus and the rules for saying it. Pure: no I/O, no clock, no threads, no torch."""
