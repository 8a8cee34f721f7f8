"""Digests of models: what changes them and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from engine.tiny import save_tiny_model
from pipespec.models.identity import tokenizer_digest, weights_digest
from pipespec.ops.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model", seed=1)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_equal_models_have_equal_digests_wherever_they_lie(folder, tmp_path):
    other = save_tiny_model(tmp_path / "elsewhere" / "copy", seed=1)
    assert weights_digest(folder, dtype="float32") == weights_digest(other, dtype="float32")
    assert tokenizer_digest(folder) == tokenizer_digest(other)
    assert len(weights_digest(folder, dtype="float32")) == len(tokenizer_digest(folder)) == 16


def test_other_weights_config_and_dtype_change_the_digest(folder, tmp_path):
    before = weights_digest(folder, dtype="float32")
    assert weights_digest(folder, dtype="bfloat16") != before
    tuned = save_tiny_model(tmp_path / "tuned", seed=2, agree_with=folder, noise=1e-4)
    assert weights_digest(tuned, dtype="float32") != before
    edit_json(folder / "config.json", rms_norm_eps=1e-4)
    assert weights_digest(folder, dtype="float32") != before


def test_every_tensor_is_sampled(folder):
    """A fine-tune of a single tensor is another model."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    before = weights_digest(folder, dtype="float32")
    for name in tensors:
        save_file({**tensors, name: tensors[name] + 0.5}, path)
        assert weights_digest(folder, dtype="float32") != before, name


def test_the_middle_of_a_large_tensor_is_sampled(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    digests = set()
    for changed in (None, 0, 25_000, 26_000):
        tensor = torch.zeros(50_000)
        if changed is not None:
            tensor[changed] = 1.0
        save_file({"a": tensor}, tmp_path / "model.safetensors")
        digests.add(weights_digest(tmp_path, dtype="float32"))
    assert len(digests) == 4


def test_incidental_keys_of_the_config_do_not_count(folder):
    before = weights_digest(folder, dtype="float32")
    edit_json(folder / "config.json", transformers_version="0.0.1", _name_or_path="elsewhere")
    assert weights_digest(folder, dtype="float32") == before


def test_only_ids_and_their_strings_make_a_tokenizer(folder):
    before = tokenizer_digest(folder)
    edit_json(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    edit_json(folder / "tokenizer.json", pre_tokenizer=None)
    assert tokenizer_digest(folder) == before
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["<added>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert tokenizer_digest(folder) != before


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0not json"])
def test_damaged_weights_are_a_model_error(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="cannot read the weights"):
        weights_digest(folder, dtype="float32")


def test_a_damaged_tokenizer_is_a_model_error(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"cannot read .*tokenizer\.json"):
        tokenizer_digest(folder)
