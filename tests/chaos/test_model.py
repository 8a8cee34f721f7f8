"""The central rows on real weights: a draft without a model, SmolLM2-135M-Instruct in float32 as the target.

The oracle is transformers alone, token by token, computed before the fleet starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from chaos import faults, fleets
from chaos import faults_of_messages as messages
from chaos.fire import Row, repeat
from chaos.fleet import Fleet, started
from chaos.report import Report
from pipespec.gateway.text import TextModel

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(900)]
PROMPTS = [
    "Count from one to fifty: one, two, three, four, five,",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "The planets of the solar system are Mercury, Venus,",
    "Once upon a time there was a small fox who lived",
]
NUM_TOKENS = 96
SLOWER_S = (fleets.MODEL_TIMERS["dead_ms"] - 500) / 1000
"""By so much this fleet is later to call a replica dead than the bounds assume."""
P_S = 1.5
"""What a target needs to read 120 tokens again while another process computes."""
STALLED_S = 2 + (fleets.MODEL_TIMERS["stall_ms"] - 1000) / 1000 + 0.01 * 120 + P_S
HUNG_S = fleets.MODEL_TIMERS["hung_ms"] / 1000 + 0.2
LEASE_S = fleets.MODEL_TIMERS["lease_ms"] / 1000 + 0.5
MOVED_S = 1 + SLOWER_S + P_S
ROWS = (
    Row("A1", "draft replica SIGKILL (the only one: also A2)", 0.5, faults.killed(0)),
    Row("A3", "target SIGKILL mid-stream", MOVED_S, faults.killed(-1)),
    Row("A4", "target SIGSTOP 3 s, then stale results", MOVED_S, faults.target_frozen),
    Row(
        "A5",
        "target thread hung, process alive",
        HUNG_S,
        faults.target_hung,
        what="until the gateway gives it no more work",
    ),
    Row("A6", "one way: nothing comes from a target", MOVED_S, messages.deaf(*messages.FROM_TARGET)),
    Row("A7", "one way: nothing reaches a target", STALLED_S, messages.deaf(*messages.TO_TARGET)),
    Row("A14/1", "one of two brokers SIGKILL", None, faults.one_broker_killed),
    Row("A18", "rolling restart of the target", None, faults.rolling_restart),
    Row(
        "A21",
        f"gateway SIGKILL (lease {LEASE_S - 0.5:g} s)",
        LEASE_S,
        faults.gateway_killed,
        what="until the stages have freed its sessions",
    ),
)


class TransformersOracle:
    """Greedy decoding by transformers; the end of text is a token as others."""

    def __init__(self, folder: Path) -> None:
        self._text = TextModel.load(folder)
        torch.set_num_threads(1)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._known = {prompt: self._decode(model, prompt) for prompt in PROMPTS}

    @torch.inference_mode()
    def _decode(self, model: torch.nn.Module, prompt: str) -> list[int]:
        ids, past, said = torch.tensor([list(self._text.encode(prompt))]), None, list[int]()
        for _ in range(NUM_TOKENS):
            output = model(input_ids=ids, past_key_values=past, use_cache=True)
            past = output.past_key_values
            said.append(int(output.logits[0, -1].argmax()))
            ids = torch.tensor([[said[-1]]])
        return said

    def __call__(self, prompt: str, num_tokens: int) -> list[int]:
        return self._known[prompt][:num_tokens]

    def text(self, ids: Sequence[int]) -> str:
        detokenizer = self._text.detokenizer()
        return "".join([*(detokenizer.step(token) for token in ids), detokenizer.flush()])


@pytest.fixture(scope="module")
def oracle(embedded_model: Path) -> TransformersOracle:
    """What the target alone says."""
    return TransformersOracle(embedded_model)


@pytest.fixture(scope="module")
def fleet(oracle: TransformersOracle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """After the oracle has spoken: both need the machine."""
    fleet = fleets.model(tmp_path_factory.mktemp("model"))
    with started(fleet):
        yield fleet


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.row)
async def test_no_token_changes(
    row: Row, fleet: Fleet, oracle: TransformersOracle, report: Report, repetitions: int
) -> None:
    few = max(1, repetitions // 2)
    measured = await repeat(
        replace(row, num_tokens=NUM_TOKENS),
        fleet,
        oracle,
        kind="model",
        repetitions=few,
        prompts=lambda _: PROMPTS,
        protocol="grpc",
    )
    report.add(measured)
