"""Which tokens end a generation, by the files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipespec.models.stop import stop_ids
from pipespec.ops.errors import ModelError


def write(folder: Path, name: str, **content: object) -> None:
    (folder / name).write_text(json.dumps(content))


def test_the_first_source_that_names_any_decides(tmp_path):
    assert stop_ids(tmp_path) == ()
    write(tmp_path, "tokenizer_config.json", eos_token="<end>")  # noqa: S106 - a token of a vocabulary
    write(
        tmp_path,
        "tokenizer.json",
        added_tokens=[{"id": 5, "content": "<other>"}, {"id": 9, "content": "<end>"}],
    )
    assert stop_ids(tmp_path) == (9,)
    write(tmp_path, "config.json", eos_token_id=7)
    assert stop_ids(tmp_path) == (7,)
    write(tmp_path, "generation_config.json", eos_token_id=[4, 2, 4])
    assert stop_ids(tmp_path) == (2, 4)


def test_a_source_that_says_null_is_passed_over(tmp_path):
    write(tmp_path, "generation_config.json", eos_token_id=None)
    write(tmp_path, "config.json", eos_token_id=3)
    assert stop_ids(tmp_path) == (3,)


def test_an_eos_token_may_be_written_as_an_object(tmp_path):
    write(tmp_path, "tokenizer_config.json", eos_token={"content": "<end>", "lstrip": False})
    write(tmp_path, "tokenizer.json", added_tokens=[{"id": 9, "content": "<end>"}])
    assert stop_ids(tmp_path) == (9,)


def test_a_damaged_file_is_a_model_error(tmp_path):
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*generation_config"):
        stop_ids(tmp_path)


@pytest.mark.model
def test_the_embedded_model_stops_at_the_end_of_its_turn(embedded_model):
    """<|im_end|> is id 2."""
    assert stop_ids(embedded_model) == (2,)
