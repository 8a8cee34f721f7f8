"""Where brokers are, and the keys to come with: from settings."""

from __future__ import annotations

from collections.abc import Iterable

from pipespec.bus.keys import ClientKeys, read_client_keys
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import BrokerSettings, Pipeline


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


def bus_client_keys(pipeline: Pipeline) -> ClientKeys | None:
    """What a process that is no broker needs on the bus; None where the bus is in plain.

    Raises:
        SettingsError: a file is missing, is no key, or can be read by others.
    """
    folder = pipeline.bus.client_keys
    return None if folder is None else read_client_keys(folder, num_servers=len(pipeline.brokers))


def _endpoint(host: str, port: int, name: str) -> str:
    if port == 0:
        raise SettingsError(
            f"brokers: {name} = 0 picks a free port, which only `pipespec up` can tell the other processes; "
            f"set it to a fixed port from 1 to 65535"
        )
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
