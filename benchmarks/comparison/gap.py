"""How far apart two candidates for a token are, by an ordinary forward pass of the model. Runs in a worker."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .equality import Candidates
from .generate import load_model
from .setup import Setup
from .workload import Report


def logit_gaps(setup: Setup, questions: Sequence[Candidates], report: Report) -> list[float]:
    """Logit of ``expected`` minus that of ``got``, for each question."""
    model = load_model(setup)
    gaps = []
    with torch.inference_mode():
        for number, question in enumerate(questions):
            ids = torch.tensor([question.context], device=model.device)
            logits = model(ids, use_cache=False, logits_to_keep=1).logits[0, -1].float()
            gaps.append(float(logits[question.expected] - logits[question.got]))
            report((number + 1) / len(questions))
    return gaps
