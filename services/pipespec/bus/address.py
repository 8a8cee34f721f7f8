"""Where brokers are: endpoints from settings."""

from __future__ import annotations

from collections.abc import Iterable

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import BrokerSettings


def publish_endpoints(brokers: Iterable[BrokerSettings]) -> list[str]:
    """Endpoints that processes publish to, one per broker."""
    return [_endpoint(broker.host, broker.publish_port, "publish_port") for broker in brokers]


def subscribe_endpoints(brokers: Iterable[BrokerSettings]) -> list[str]:
    """Endpoints that processes subscribe at, one per broker."""
    return [_endpoint(broker.host, broker.subscribe_port, "subscribe_port") for broker in brokers]


def bind_endpoints(broker: BrokerSettings) -> tuple[str, str]:
    """Where a broker itself listens: for what is published, and for subscribers."""
    here = broker.model_copy(update={"host": broker.bind or broker.host})
    return publish_endpoints([here])[0], subscribe_endpoints([here])[0]


def _endpoint(host: str, port: int, name: str) -> str:
    if port == 0:
        raise SettingsError(
            f"brokers: {name} = 0 picks a free port, which only `pipespec up` can tell the other processes; "
            f"set it to a fixed port from 1 to 65535"
        )
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
