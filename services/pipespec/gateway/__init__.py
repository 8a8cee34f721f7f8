"""The gateway: client sessions over HTTP, gRPC and ZeroMQ; text to ids and back; the owner of committed tokens."""
