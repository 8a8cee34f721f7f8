"""Steps of fixed shape, captured once as CUDA graphs and replayed: the host launches one graph instead of every kernel.

A step in which every session brings few tokens is laid into the next larger shape: N sessions, Q rows each, L keys
each. What is left over is padding: its rows write to the trash block. Other steps, prefill above all, run as ragged batches.
Shapes are captured when they are first needed. How a body is captured is a parameter: on CPU it is run as it is, which is
how tests check the shapes.

Shape symbols: N = sessions, Q = rows per session, L = keys per session, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import torch

from pipespec.engine.batch_builder import BatchBuilder, Share
from pipespec.engine.ragged import Group, RaggedBatch
from pipespec.engine.runner import ModelRunner

log = structlog.get_logger(__name__)

MAX_ROWS = 16
"""Sessions with more new tokens than this are not padded up."""
MIN_KEYS = 256
"""Shortest L; others are powers of two times this."""
MAX_KEYS = 2**18
"""Most N·L of a shape. Every session of it gathers as many keys as the longest, so one long session among many would cost
the memory of as many long ones: at 8 heads of 128 and 16 bits this is 1 GiB of keys and values while a layer runs."""

Body = Callable[[], torch.Tensor]
Capture = Callable[[Body], Body]
"""Makes a body that computes the same from the same tensors, faster."""


@dataclass(frozen=True, slots=True)
class Shape:
    """N sessions, Q rows each, L keys each."""

    num_sessions: int
    num_rows: int
    num_keys: int

    @classmethod
    def around(cls, shares: Sequence[Share]) -> Shape:
        """The smallest into which a step fits; every side is a power of two."""
        most_keys = max(share.start + len(share.tokens) for share in shares)
        return cls(
            num_sessions=_next_power(len(shares)),
            num_rows=_next_power(max(len(share.tokens) for share in shares)),
            num_keys=MIN_KEYS * _next_power(-(-most_keys // MIN_KEYS)),
        )


class CapturedSteps:
    """Runs steps over captured shapes where it can, over ragged batches where it cannot.

    Args:
        runner: of the model; its pool must not be resized any more.
        builder: of ragged batches.
        capture: how a body is captured.
    """

    def __init__(self, runner: ModelRunner, builder: BatchBuilder, capture: Capture) -> None:
        self.num_replayed = 0
        self._runner = runner
        self._builder = builder
        self._capture = capture
        self._steps: dict[Shape, _CapturedStep] = {}
        self._refused = False
        self._too_large: set[Shape] = set()

    def forward(self, shares: Sequence[Share]) -> torch.Tensor:
        """Logits ``[R, V]`` of the shares' ``logits_of``, share by share."""
        shape = Shape.around(shares)
        if self._takes(shape):
            step = self._steps.get(shape) or self._captured(shape, shares)
            if step is not None:
                self.num_replayed += 1
                return step.forward(shares)
        return self._runner.forward(self._builder.build(shares))

    def _takes(self, shape: Shape) -> bool:
        return (
            not self._refused
            and shape not in self._too_large
            and shape.num_rows <= MAX_ROWS
            and shape.num_sessions * shape.num_keys <= MAX_KEYS
        )

    def _captured(self, shape: Shape, shares: Sequence[Share]) -> _CapturedStep | None:
        """A new step; None where there is no memory for its shape, or where the family cannot be captured at all.

        Smaller shapes may fit. A family that cannot be captured asks the device for values on the way.
        """
        try:
            step = _CapturedStep(shape, self._runner, self._builder, self._capture, first=shares)
        except torch.OutOfMemoryError as error:  # a RuntimeError too
            self._too_large.add(shape)
            log.warning(
                "engine.shape_not_captured",
                shape=(shape.num_sessions, shape.num_rows, shape.num_keys),
                reason=str(error),
                advice="steps of this shape are launched kernel by kernel; a smaller cache leaves more memory",
            )
            return None
        except (RuntimeError, NotImplementedError) as error:
            self._refused = True
            log.warning(
                "engine.not_captured", reason=str(error), advice="steps are launched kernel by kernel"
            )
            return None
        log.info("engine.captured", shape=(shape.num_sessions, shape.num_rows, shape.num_keys))
        self._steps[shape] = step
        return step


class _CapturedStep:
    """Tensors of one shape, and the body that computes over them."""

    def __init__(
        self,
        shape: Shape,
        runner: ModelRunner,
        builder: BatchBuilder,
        capture: Capture,
        *,
        first: Sequence[Share],
    ) -> None:
        self._shape = shape
        self._builder = builder
        device = runner.model.device
        num_rows = shape.num_sessions * shape.num_rows
        self._input_ids = torch.zeros(1, num_rows, dtype=torch.long, device=device)
        self._positions = torch.zeros(shape.num_sessions, shape.num_rows, dtype=torch.long, device=device)
        self._write_slots = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._key_slots = torch.zeros(shape.num_sessions, shape.num_keys, dtype=torch.long, device=device)
        self._logit_rows = torch.arange(num_rows, device=device)
        self._fill(first)
        self._body = capture(lambda: runner.forward(self._batch()))

    def forward(self, shares: Sequence[Share]) -> torch.Tensor:
        """Logits ``[R, V]`` of a step that fits the shape."""
        self._fill(shares)
        logits = self._body()
        rows = [
            index * self._shape.num_rows + row
            for index, share in enumerate(shares)
            for row in share.logits_of
        ]
        return logits[torch.tensor(rows, dtype=torch.long).to(logits.device, non_blocking=True)]

    def _batch(self) -> RaggedBatch:
        group = Group(first_row=0, positions=self._positions, key_slots=self._key_slots, is_exact=False)
        return RaggedBatch(
            input_ids=self._input_ids,
            position_ids=self._positions.view(1, -1),
            write_slots=self._write_slots,
            groups=(group,),
            logit_rows=self._logit_rows,
        )

    def _fill(self, shares: Sequence[Share]) -> None:
        """Lay the step into the tensors, on the host first: four copies to the device, whatever the number of sessions."""
        shape = self._shape
        ids = torch.zeros(shape.num_sessions, shape.num_rows, dtype=torch.long)
        positions, write_slots = torch.zeros_like(ids), torch.zeros_like(ids)
        key_slots = torch.zeros(shape.num_sessions, shape.num_keys, dtype=torch.long)
        for index, share in enumerate(shares):
            num_tokens, end = len(share.tokens), share.start + len(share.tokens)
            slots = self._builder.slots(share.table)[:end]
            ids[index, :num_tokens] = torch.tensor(share.tokens)
            positions[index] = end - 1
            positions[index, :num_tokens] = torch.arange(share.start, end)
            write_slots[index, :num_tokens] = slots[share.start :]
            key_slots[index, :end] = slots
        self._input_ids.copy_(ids.view(1, -1), non_blocking=True)
        self._positions.copy_(positions, non_blocking=True)
        self._write_slots.copy_(write_slots.view(-1), non_blocking=True)
        self._key_slots.copy_(key_slots, non_blocking=True)


class CudaGraphs:
    """``Capture`` as CUDA graphs that share one memory pool: they never run at the same time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, body: Body) -> Body:
        """Run the body until its kernels have been chosen, then record it."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch lacks the types
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                body()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = body()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay


def uncaptured(body: Body) -> Body:
    """``Capture`` that leaves the body as it is."""
    return body


def _next_power(number: int) -> int:
    return 1 << (number - 1).bit_length()
