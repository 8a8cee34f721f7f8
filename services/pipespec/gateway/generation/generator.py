"""Starts requests: check, open, register.

One per client protocol, so that request ids of different protocols do not meet. Holds the requests that are active
and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pipespec.gateway.access import Principal
from pipespec.gateway.backend import Backend, TokenStream
from pipespec.gateway.generation.admission import Admission, Plan
from pipespec.gateway.generation.choice import Choice, cancelled, deadline_exceeded
from pipespec.gateway.generation.generation import Generation
from pipespec.gateway.generation.record import RequestRecord
from pipespec.gateway.generation.request import GenerationRequest
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import RequestError
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason

_Key = tuple[str | None, str]
"""Name of the principal, and its own request id: those of different principals do not meet."""


class Generator:
    """The way from a request to its generation.

    Args:
        backend: the pipeline.
        text: the model's tokenizer and chat template.
        settings: defaults, and the longest that a request may take.
        model_name: what clients call the model.
        protocol: of the adapter, for metrics.
    """

    def __init__(
        self, *, backend: Backend, text: TextModel, settings: GatewaySettings, model_name: str, protocol: str
    ) -> None:
        self.model_name = model_name
        self._backend = backend
        self._text = text
        self._timeout_s = settings.request_timeout_s
        self._protocol = protocol
        self._admission = Admission(
            backend=backend, text=text, default_max_tokens=settings.default_max_tokens
        )
        self._active: dict[_Key, asyncio.Future[RequestError]] = {}

    @property
    def is_ready(self) -> bool:
        """Whether a request started now would be served."""
        return self._backend.is_ready

    @property
    def num_active(self) -> int:
        """Requests between start and close."""
        return len(self._active)

    def check_model(self, name: str) -> None:
        """Refuse a request for another model.

        Raises:
            RequestError: ``model_not_found``.
        """
        if name != self.model_name:
            raise RequestError(
                f"there is no model {name[:80]!r} here; expected {self.model_name!r}",
                code="model_not_found",
                param="model",
            )

    async def start(self, request: GenerationRequest, *, principal: Principal | None = None) -> Generation:
        """Check the request and open its sessions. The caller enters the result as a context, or closes it.

        Args:
            request: what is asked for.
            principal: who asks; None where the gateway has no keys.

        Raises:
            RequestError: it cannot be served; nothing stays open.
        """
        record = RequestRecord(self._protocol)
        try:
            return await self._start(request, principal, record)
        except RequestError as error:
            record.end(error.code)
            raise

    def cancel(self, request_id: str, *, principal: Principal | None = None) -> bool:
        """End an active request of ``principal`` with the error ``cancelled``; tell whether there is one."""
        interrupt = self._active.get(_key(request_id, principal))
        if interrupt is None:
            return False
        if not interrupt.done():
            interrupt.set_result(cancelled())
        return True

    def interrupt_all(self, error: RequestError) -> None:
        """End every active request with ``error``."""
        for interrupt in self._active.values():
            if not interrupt.done():
                interrupt.set_result(error)

    async def _start(
        self, request: GenerationRequest, principal: Principal | None, record: RequestRecord
    ) -> Generation:
        key = _key(request.request_id, principal)
        if key in self._active:
            raise RequestError(
                f"request id {request.request_id!r} is active; use another one",
                code="request_id_active",
                param="request_id",
            )
        loop = asyncio.get_running_loop()
        interrupt: asyncio.Future[RequestError] = loop.create_future()
        deadline = loop.time() + min(request.timeout_s or self._timeout_s, self._timeout_s)
        num_choices = len(request.prompts) * request.n
        if principal is not None:
            principal.check_model(self.model_name)
            principal.enter(num_choices)
        self._active[key] = interrupt

        def leave() -> None:
            del self._active[key]
            if principal is not None:
                principal.leave(num_choices)

        try:
            async with asyncio.timeout_at(deadline) as timer:
                plans = await self._admission.plan(request)
                choices = await self._open(plans, request, deadline=deadline)
        except BaseException as error:
            leave()
            if isinstance(error, TimeoutError) and timer.expired():
                raise deadline_exceeded() from error
            raise
        return Generation(
            choices,
            deadline=deadline,
            interrupt=interrupt,
            record=record,
            on_close=leave,
        )

    async def _open(
        self, plans: Sequence[Plan], request: GenerationRequest, *, deadline: float
    ) -> list[Choice]:
        streams: list[TokenStream] = []
        try:
            for plan in plans:
                stream = await self._backend.open(
                    prompt=plan.prompt, sampling=plan.sampling, speculate=request.speculate
                )
                streams.append(stream)
        except BaseException:
            is_late = asyncio.get_running_loop().time() >= deadline
            reason = EndReason.DEADLINE if is_late else EndReason.CANCELLED
            await asyncio.gather(*(stream.close(reason) for stream in streams))
            raise
        return [
            Choice(
                stream,
                index=index,
                prompt_len=len(plan.prompt),
                detokenizer=self._text.detokenizer(),
                stop=request.stop,
                include_stats=request.include_stats,
            )
            for index, (plan, stream) in enumerate(zip(plans, streams, strict=True))
        ]


def _key(request_id: str, principal: Principal | None) -> _Key:
    return (None if principal is None else principal.name, request_id)
