"""Which families of models are served, and which are refused at load with an error that names them."""

from __future__ import annotations

import pytest
import structlog
import torch
from transformers import PreTrainedModel

from engine.families import NOT_PACKED, REFUSED, SERVED, family_config
from engine.tiny import tiny_model
from pipespec.engine.assembly import assemble_engine
from pipespec.engine.paged import PagedEngine
from pipespec.ops.errors import ModelError
from pipespec.ops.pipeline import StageSettings

SETTINGS = StageSettings(model="tiny", device="cpu", cache_gib=0.01)


def assembled(family: str) -> PagedEngine:
    return assemble_engine(lambda: tiny_model(family, layers=2), SETTINGS)


def last_logits(model: PreTrainedModel, *tokens: int) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]


@pytest.mark.parametrize("family", SERVED)
def test_families_with_plain_attention_are_served(family):
    assert assembled(family).vocab_size == 64


@pytest.mark.parametrize("family", SERVED)
def test_an_early_token_changes_what_comes_much_later(family):
    """Otherwise comparing logits would prove nothing about the cache."""
    model = tiny_model(family)
    one, other = last_logits(model, 5, 6, 7, 8, 9, 10), last_logits(model, 4, 6, 7, 8, 9, 10)
    assert (one - other).square().mean().sqrt() > 0.1 * one.std()


@pytest.mark.parametrize("family", REFUSED)
def test_families_that_would_be_wrong_are_refused_by_name(family):
    """State outside attention, a look ahead, masks or biases of their own."""
    model_type = family_config(family, layers=2, vocab_size=64, eos_token_id=0).model_type
    with pytest.raises(ModelError, match=f"'{model_type}'.*{REFUSED[family][1]}"):
        assembled(family)


@pytest.mark.parametrize("family", ["llama", *NOT_PACKED])
def test_a_family_that_looks_into_its_linear_layers_keeps_them(family):
    with structlog.testing.capture_logs() as logs:
        assembled(family)
    assert ("engine.not_packed" in [entry["event"] for entry in logs]) == (family in NOT_PACKED)
