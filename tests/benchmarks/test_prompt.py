"""The prompts are what they are said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.comparison.contender import CONTENDERS
from benchmarks.comparison.plan import make_plan
from benchmarks.comparison.prompt import TEXTS, Kind, load_prompts
from benchmarks.comparison.setup import Setup

from pipespec.gateway.text import TextModel
from pipespec.ops.errors import SettingsError


def test_code_prompts_are_human_evals_in_order(setup: Setup) -> None:
    text = TextModel.load(setup.folder)
    prompts = load_prompts(Kind.CODE, text, number=2)
    assert [prompt.name for prompt in prompts] == ["HumanEval/0", "HumanEval/1"]
    assert text.decode(prompts[0].ids).startswith("from typing import List\n\n\ndef has_close_elements(")


def test_summary_prompts_hold_their_text_inside_the_chat_template(setup: Setup) -> None:
    text = TextModel.load(setup.folder)
    (prompt,) = load_prompts(Kind.SUMMARY, text, number=1)
    file = min(TEXTS.glob("*.txt"))
    assert prompt.name == file.stem
    assert file.read_text(encoding="utf-8") in text.decode(prompt.ids)
    assert len(prompt.ids) > len(text.encode(file.read_text(encoding="utf-8")))


@pytest.mark.model
def test_texts_are_long_but_not_too_long_for_the_embedded_model(embedded_model: Path) -> None:
    prompts = load_prompts(Kind.SUMMARY, TextModel.load(embedded_model), number=16)
    assert all(600 <= len(prompt.ids) <= 1500 for prompt in prompts)
    assert len({prompt.ids[:100] for prompt in prompts}) == 16, "no two begin alike: no prefix cache helps"


@pytest.mark.parametrize("kind", list(Kind))
def test_asking_for_more_prompts_than_there_are_is_an_error(setup: Setup, kind: Kind) -> None:
    with pytest.raises(SettingsError, match=f"expected 1000 prompts of kind {kind}, there are"):
        load_prompts(kind, TextModel.load(setup.folder), number=1000)


def test_a_prompt_that_does_not_fit_the_model_is_an_error(setup: Setup) -> None:
    with pytest.raises(SettingsError, match="does not fit the model's context of 512"):
        make_plan(setup.folder, contenders=CONTENDERS, sessions=(1,), max_tokens=8, rounds=1)
