"""One choice: a backend stream on one side, text events on the other.

Takes committed tokens one by one, so that a stop string ends the choice at the very token that completes it: that
token is counted and delivered, those after it in the same message are not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from pipespec.gateway.backend import Tokens, TokenStream
from pipespec.gateway.generation.events import Delta, Done, Event, FinishReason, Usage
from pipespec.gateway.text import Detokenizer, StopStrings
from pipespec.ops.errors import RequestError, SessionLost, Unavailable
from pipespec.protocol.ids import Position
from pipespec.protocol.messages import EndReason

_FINISH = {EndReason.STOP: FinishReason.STOP, EndReason.LENGTH: FinishReason.LENGTH}


class Choice:
    """One continuation of one prompt.

    Args:
        stream: open; closed by ``close``.
        index: of the choice.
        prompt_len: tokens of the prompt.
        detokenizer: fresh.
        stop: stop strings.
        include_stats: ask the stages at the end.
    """

    def __init__(
        self,
        stream: TokenStream,
        *,
        index: int,
        prompt_len: int,
        detokenizer: Detokenizer,
        stop: Sequence[str],
        include_stats: bool,
    ) -> None:
        self._stream = stream
        self._index = index
        self._prompt_len = prompt_len
        self._detokenizer = detokenizer
        self._stop = StopStrings(stop)
        self._include_stats = include_stats
        self._num_tokens = 0

    async def events(self) -> AsyncGenerator[Event]:
        """Deltas, then ``Done``.

        Raises:
            RequestError: the session ended early; ``SessionLost`` when no target replica could go on.
        """
        async for tokens in self._stream:
            yield self._take(tokens)
            if self._stop.hit is not None:
                break
        tail = self._stop.push(self._detokenizer.flush()) + self._stop.flush()
        if tail:
            yield Delta(self._index, tail, (), Position(self._num_tokens))
        if self._stop.hit is not None:
            await self.close(EndReason.STOP)
            finish_reason = FinishReason.STOP
        else:
            finish_reason = _finish_reason(self._stream.end)
        stats = tuple(await self._stream.stats()) if self._include_stats else None
        yield Done(self._index, finish_reason, Usage(self._prompt_len, self._num_tokens), stats)

    async def close(self, reason: EndReason) -> None:
        """End the session on all stages, if it has not ended."""
        await self._stream.close(reason)

    def _take(self, tokens: Tokens) -> Delta:
        text = ""
        count = 0
        for token in tokens.ids:
            count += 1
            text += self._stop.push(self._detokenizer.step(token))
            if self._stop.hit is not None:
                break
        self._num_tokens += count
        return Delta(self._index, text, tokens.ids[:count], tokens.start)


def _finish_reason(end: EndReason | None) -> FinishReason:
    if end in _FINISH:
        return _FINISH[end]
    if end is EndReason.CANCELLED:
        raise cancelled()
    if end is EndReason.DEADLINE:
        raise deadline_exceeded()
    raise SessionLost(
        f"the session ended before its last token ({end}); what was sent is right, send the request again",
        code="session_lost",
    )


def cancelled() -> RequestError:
    """Someone asked for the end of the request."""
    return RequestError("the request was cancelled before its last token", code="cancelled")


def shutting_down() -> Unavailable:
    """The request, or what is left of it, cannot be served by this gateway any more."""
    return Unavailable(
        "the gateway is shutting down; send the request to another one", code="server_shutting_down"
    )


def deadline_exceeded() -> RequestError:
    """The request took longer than it may."""
    return RequestError(
        "the request took longer than it may; ask for fewer tokens or a longer timeout",
        code="deadline_exceeded",
    )
