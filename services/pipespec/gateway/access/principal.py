"""Who asks, and how much of the gateway it may have.

A principal is known by its keys; a gateway without keys knows none, and then nothing is limited here. The event loop
owns the count of what runs. Whoever enters leaves once, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Self

from pipespec.ops.errors import Overloaded, RequestError


class Principal:
    """One party that was given keys.

    Args:
        name: of the key file; for logs, and to tell its requests from those of others.
        models: that it may use; None allows all.
        max_requests: that may run at once, over all protocols of this gateway; None does not bound them. Every choice
            of every prompt counts as one, because each is a session.
    """

    def __init__(
        self, name: str, *, models: AbstractSet[str] | None = None, max_requests: int | None = None
    ) -> None:
        self.name = name
        self.models = models
        self.max_requests = max_requests
        self._running = _Running()

    @property
    def num_running(self) -> int:
        """Requests between ``enter`` and ``leave``, those of earlier rights included."""
        return self._running.count

    def may_use(self, model: str) -> bool:
        """Whether it may use ``model``."""
        return self.models is None or model in self.models

    def check_model(self, model: str) -> None:
        """Refuse a model that is not its own.

        Raises:
            RequestError: ``model_not_allowed``.
        """
        if not self.may_use(model):
            raise RequestError(
                f"this key may not use the model {model!r}; ask for a key that may",
                code="model_not_allowed",
                param="model",
            )

    def enter(self, num_requests: int) -> None:
        """Take room for ``num_requests``; ``leave`` gives it back.

        Raises:
            Overloaded: ``key_limit_reached``; the room comes back when others of its requests end.
            RequestError: more than it may ever have at once.
        """
        if self.max_requests is not None:
            if num_requests > self.max_requests:
                raise RequestError(
                    f"this request asks for {num_requests} choices; this key may have {self.max_requests} at once",
                    code="invalid_value",
                    param="n",
                )
            if self.num_running + num_requests > self.max_requests:
                raise Overloaded(
                    f"{self.num_running} requests of this key run, and it may have {self.max_requests} at once",
                    code="key_limit_reached",
                )
        self._running.count += num_requests

    def leave(self, num_requests: int) -> None:
        """Give back what ``enter`` took."""
        self._running.count -= num_requests

    def succeed(self, earlier: Self) -> None:
        """Take over what runs of the principal that had this name under earlier rights."""
        self._running = earlier._running


def name_of(principal: Principal | None) -> str:
    """Its name; empty, which no key file allows, where the gateway has no keys."""
    return "" if principal is None else principal.name


class _Running:
    """A count that outlives a change of rights."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0
