"""Messages and stubs of the gRPC API, generated from ``proto/pipespec/v1/pipespec.proto`` by ``make proto``."""
