"""The gRPC edge: ``pipespec.v1.Generation``, the standard health service, reflection."""

from pipespec.gateway.grpc.server import GrpcServer, serve_grpc

__all__ = ["GrpcServer", "serve_grpc"]
