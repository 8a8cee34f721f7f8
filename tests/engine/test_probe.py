"""What the probe notices: wrong logits, lost context, rows too many, and windows that no short text can show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from engine.families import family_config
from engine.tiny import FAMILIES, tiny_model
from pipespec.engine import probe
from pipespec.engine.attention import ragged_attention
from pipespec.engine.runner import ModelRunner
from pipespec.ops.errors import ModelError


def runner_of(model: PreTrainedModel) -> ModelRunner:
    return ModelRunner(model, num_slots=probe.NUM_SLOTS)


def probed(model: PreTrainedModel) -> None:
    ordinary = probe.ordinary_logits(model)
    probe.check(runner_of(model), ordinary)


def with_windows(family: str, config_says: int, layers_say: int | None) -> PreTrainedModel:
    model = tiny_model(family)
    model.config.sliding_window = config_says
    model.model.layers[0].self_attn.sliding_window = layers_say
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_models_pass_in_every_dtype(family, dtype):
    probed(tiny_model(family, layers=3).to(dtype))


def test_context_matters_to_the_models_of_these_tests():
    assert all(one.dependence > 0.3 for one in probe.ordinary_logits(tiny_model()))


def test_logits_that_are_off_are_refused():
    model = tiny_model()
    off = [replace(one, logits=one.logits + 0.01 * one.logits.std()) for one in probe.ordinary_logits(model)]
    with pytest.raises(ModelError, match=r"'llama' cannot be served.*off by 0\.01"):
        probe.check(runner_of(model), off)


def test_a_rough_dtype_hides_no_lost_context():
    """Where context changes little, an error that rounding might make could as well be a wrong context."""
    model = tiny_model().to(torch.bfloat16)
    ordinary = probe.ordinary_logits(model)
    runner = runner_of(model)
    off = [replace(one, logits=one.logits + 0.05 * one.logits.std()) for one in ordinary]
    probe.check(runner, off)
    with pytest.raises(ModelError, match=r"allowed: 0\.025"):
        probe.check(runner, [replace(one, dependence=0.1) for one in off])


class _GivesAllLogits(LlamaForCausalLM):
    def forward(self, *args: Any, logits_to_keep: int | torch.Tensor = 0, **kwargs: Any) -> Any:
        del logits_to_keep
        return super().forward(*args, **kwargs)


def test_a_model_that_gives_more_logits_than_were_asked_for_is_refused():
    """Otherwise one session would be told another's."""
    model = _GivesAllLogits(family_config("llama", layers=2, vocab_size=64, eos_token_id=0)).eval()
    with pytest.raises(ModelError, match="'llama' does not work"):
        probed(model)


@pytest.mark.parametrize("layers_say", [None, 99, 101], ids=str)
def test_windows_longer_than_the_texts_are_compared_with_the_config(layers_say):
    probed(with_windows("gemma3", 100, 100))
    with pytest.raises(ModelError, match="layer 0 should see a window of 100 tokens, but it tells attention"):
        probed(with_windows("gemma3", 100, layers_say))


def test_a_window_as_long_as_the_context_is_none():
    """Phi-3.5-MoE has one, and does not tell attention."""
    probed(with_windows("phimoe", 512, None))


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"attention_mask": torch.zeros(1, 1, 3, 3)}, "an attention mask of its own"),
        ({"is_causal": False}, "sees tokens that come later"),
        ({"position_bias": torch.zeros(1)}, "asks attention for 'position_bias'"),
        ({"some_new_thing": 0.5}, "asks attention for 'some_new_thing'"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else None,
)
def test_attention_refuses_what_it_would_ignore(keywords, complaint):
    rows = torch.zeros(1, 1, 3, 4)
    with pytest.raises(ModelError, match=complaint):
        ragged_attention(torch.nn.Module(), rows, rows, rows, **keywords)
