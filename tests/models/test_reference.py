"""Model references: which of the four forms a text is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipespec.models.reference import ReferenceKind, parse
from pipespec.ops.errors import ModelError


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", ReferenceKind.HUB),
        ("gpt2", ReferenceKind.HUB),
        ("./models/mine", ReferenceKind.FOLDER),
        ("../mine", ReferenceKind.FOLDER),
        ("/srv/models/mine", ReferenceKind.FOLDER),
        ("~/mine", ReferenceKind.FOLDER),
        (".", ReferenceKind.FOLDER),
        ("mine.gguf", ReferenceKind.GGUF),
        ("/srv/mine.Q4_K.gguf", ReferenceKind.GGUF),
        ("embedded:smollm2-135m-instruct", ReferenceKind.EMBEDDED),
    ],
)
def test_each_form_is_recognised(text, kind):
    assert parse(text).kind is kind


def test_an_existing_folder_wins_over_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse("owner/name").kind is ReferenceKind.FOLDER
    assert parse("owner/other").kind is ReferenceKind.HUB


def test_the_home_folder_is_expanded():
    assert parse("~/x.gguf").path == Path.home() / "x.gguf"


@pytest.mark.parametrize("text", ["", "a/b/c", "a b", "-x", "owner/..", "http://x/y", "owner/"])
def test_anything_else_is_refused_with_the_allowed_forms(text):
    with pytest.raises(ModelError, match=r"not understood; expected a hub id .* embedded:"):
        parse(text)
