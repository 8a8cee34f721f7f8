"""Who may ask the gateway for what: principals, and the keys that they are known by."""

from pipespec.gateway.access.principal import Principal

__all__ = ["Principal"]
