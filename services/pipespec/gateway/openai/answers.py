"""What the endpoints answer: whole objects, and the chunks of a stream.

A ``Form`` knows how one endpoint names things; everything else is the same for both.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pipespec.gateway.backend import StageStats
from pipespec.gateway.generation import Delta, Done, Event, Usage
from pipespec.gateway.openai.schema import ChatBody, GenerationBody
from pipespec.protocol.messages import StageCounters

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """How one endpoint words its answers."""

    prefix: str
    whole: str
    chunk: str
    is_chat: bool

    def choice(self, index: int, text: str) -> Json:
        """A complete choice."""
        return {
            "index": index,
            **({"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}),
        }

    def delta(self, index: int, text: str) -> Json:
        """A choice of a chunk."""
        if not self.is_chat:
            return {"index": index, "text": text}
        return {"index": index, "delta": {"content": text} if text else {}}


CHAT = Form("chatcmpl-", "chat.completion", "chat.completion.chunk", is_chat=True)
COMPLETION = Form("cmpl-", "text_completion", "text_completion", is_chat=False)


class Answer:
    """Answers to one request.

    Args:
        body: what was asked.
        request_id: becomes part of the answer's id.
    """

    def __init__(self, body: GenerationBody, *, request_id: str) -> None:
        self._body = body
        self._form = CHAT if isinstance(body, ChatBody) else COMPLETION
        self._id = f"{self._form.prefix}{request_id}"
        self._created = int(time.time())  # noqa: TID251 - only shown
        self._done: list[Done] = []
        self._started: set[int] = set()

    def whole(self, events: Iterable[Event]) -> Json:
        """The complete object, from all events."""
        choices: dict[int, _Choice] = {}
        for event in events:
            choice = choices.setdefault(event.index, _Choice())
            if isinstance(event, Delta):
                choice.text.append(event.text)
                choice.token_ids.extend(event.token_ids)
            else:
                choice.finish_reason = event.finish_reason
                self._done.append(event)
        return {
            **self._head(self._form.whole),
            "choices": [self._whole_choice(index, choices[index]) for index in sorted(choices)],
            "usage": self._usage(),
            **self._stats(),
        }

    def chunks(self, event: Event) -> Iterator[Json]:
        """Chunks that say one event; none when there is nothing to say yet."""
        if self._form.is_chat and event.index not in self._started:
            self._started.add(event.index)
            yield self._chunk({"index": event.index, "delta": {"role": "assistant", "content": ""}})
        if isinstance(event, Done):
            self._done.append(event)
            yield self._chunk(self._form.delta(event.index, ""), finish_reason=event.finish_reason)
        elif event.text or self._body.return_token_ids:
            choice = self._form.delta(event.index, event.text)
            if self._body.return_token_ids:
                choice |= {"token_ids": list(event.token_ids), "start": event.start}
            yield self._chunk(choice)

    def last_chunks(self) -> Iterator[Json]:
        """What follows the last event: usage and stats, where they were asked for."""
        if self._body.includes_usage or self._body.include_stats:
            usage = {"usage": self._usage()} if self._body.includes_usage else {}
            yield {**self._head(self._form.chunk), "choices": [], **usage, **self._stats()}

    def _head(self, kind: str) -> Json:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._body.model}

    def _whole_choice(self, index: int, choice: _Choice) -> Json:
        ids = {"token_ids": choice.token_ids} if self._body.return_token_ids else {}
        text = "".join(choice.text)
        return {
            **self._form.choice(index, text),
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            **ids,
        }

    def _chunk(self, choice: Json, *, finish_reason: str | None = None) -> Json:
        usage = {"usage": None} if self._body.includes_usage else {}
        choice = {**choice, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head(self._form.chunk), "choices": [choice], **usage}

    def _usage(self) -> Json:
        # The prompt is counted once per prompt, not once per choice of it.
        prompts = sum(done.usage.prompt_tokens for done in self._done if done.index % self._body.n == 0)
        usage = Usage(prompts, sum(done.usage.completion_tokens for done in self._done))
        return {**asdict(usage), "total_tokens": usage.total_tokens}

    def _stats(self) -> Json:
        reports = [done.stats for done in self._done if done.stats is not None]
        return {"stats": {"stages": _sum_stats(reports)}} if self._body.include_stats else {}


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None


def _sum_stats(reports: Sequence[Sequence[StageStats]]) -> list[Json]:
    """Counters by stage, over all choices."""
    stages: dict[int, Json] = {}
    for report in reports:
        for stage in report:
            entry = stages.setdefault(stage.rank, {"rank": stage.rank, "name": stage.name})
            for counter in fields(StageCounters):
                entry[counter.name] = entry.get(counter.name, 0) + getattr(stage.counters, counter.name)
    return [stages[rank] for rank in sorted(stages)]
