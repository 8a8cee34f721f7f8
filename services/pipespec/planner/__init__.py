"""Says which stages pay, how deep, how many replicas of each: closed forms and a simulation. No I/O, no torch."""
