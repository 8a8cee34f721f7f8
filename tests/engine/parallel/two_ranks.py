"""A program for torchrun: one of two ranks, over which models are split and compared with whole ones.

Arguments: a file for the leader's findings, then model folders. The findings are JSON, by folder name: the greatest
difference of logits, and what the split engine picked under random schedules beside what ``generate`` says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from engine.schedule import Script, run_interleaved
from engine.tiny import BYTE_VOCAB
from pipespec.engine.checkpoint import load_model
from pipespec.engine.load import load_engine
from pipespec.engine.parallel.group import RankGroup
from pipespec.engine.parallel.launch import seat_in_environment
from pipespec.engine.parallel.leader import LeaderEngine, follow
from pipespec.engine.parallel.ranks import joined
from pipespec.ops.pipeline import StageSettings
from pipespec.protocol.sampling import Sampling

NUM_SCRIPTS, NUM_TOKENS = 3, 24


def logits_off_by(whole: Any, split: Any) -> float:
    """Greatest difference; every rank has to take part."""
    ids = torch.tensor([list(range(10, 50))])
    with torch.inference_mode():
        return float((split(input_ids=ids).logits - whole(input_ids=ids).logits).abs().max())


def script_of(whole: Any, seed: int) -> Script:
    """A prompt, and what the whole model says to it."""
    source = torch.Generator().manual_seed(seed)
    prompt = torch.randint(3, BYTE_VOCAB, (1, 5 + 16 * seed), generator=source)
    output = whole.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NUM_TOKENS,
        eos_token_id=-1,
    )
    reference = output[0, prompt.shape[1] :].tolist()
    return Script(prompt=prompt[0].tolist(), reference=reference, vocab_size=BYTE_VOCAB, seed=seed)


def compare(folder: Path, group: RankGroup) -> dict[str, Any]:
    """Empty on a follower."""
    whole = load_model(folder, device="cpu", dtype="float32")
    off_by = logits_off_by(whole, load_model(folder, device="cpu", dtype="float32", ranks=group))
    loaded = load_engine(StageSettings(model=str(folder), device="cpu"), ranks=group)
    if not group.leads:
        follow(loaded.engine, group)
        return {}
    engine = LeaderEngine(loaded.engine, group)
    scripts = [script_of(whole, seed) for seed in range(NUM_SCRIPTS)]
    run_interleaved(engine, scripts, sampling=Sampling(max_tokens=NUM_TOKENS), seed=1)
    for script in scripts:
        engine.close(script.session)
    engine.stop()
    return {
        "logits_off_by": off_by,
        "picked": [script.picked[:NUM_TOKENS] for script in scripts],
        "expected": [list(script.reference) for script in scripts],
        "is_another_identity": loaded.weights
        != load_engine(StageSettings(model=str(folder), device="cpu")).weights,
    }


def main(findings: Path, folders: list[Path]) -> None:
    """Compare all, one after the other."""
    torch.set_num_threads(1)
    seat = seat_in_environment(2)
    assert seat is not None
    with joined(seat, "cpu") as group:
        found = {folder.name: compare(folder, group) for folder in folders}
    if group.leads:
        findings.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
