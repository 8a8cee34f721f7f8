"""ZeroMQ behind one door: the sockets, the thread that owns them, and the queues to the rest of a process."""
