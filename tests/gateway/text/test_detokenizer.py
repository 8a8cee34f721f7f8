"""The incremental decoder: its pieces joined are the whole decoded text."""

from __future__ import annotations

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gateway.conftest import CORPUS, small_tokenizer
from pipespec.gateway.text import TextModel


def byte_fallback_tokenizer() -> Tokenizer:
    """In the manner of Llama 2: words with ▁, single bytes as ``<0xE2>``."""
    model = models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)  # noqa: S106 - a token of text
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        CORPUS[:3], trainers.BpeTrainer(vocab_size=400, special_tokens=names, show_progress=False)
    )
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = document["added_tokens"][:3]  # bytes are plain vocabulary, not added tokens
    return Tokenizer.from_str(json.dumps(document))


@cache
def text_model(kind: str) -> tuple[TextModel, int]:
    tokenizer = small_tokenizer() if kind == "byte_level" else byte_fallback_tokenizer()
    return TextModel(tokenizer), tokenizer.get_vocab_size()


def streamed(text: TextModel, ids: list[int]) -> list[str]:
    detokenizer = text.detokenizer()
    return [*(detokenizer.step(token) for token in ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_pieces_of_any_ids_join_to_the_decoded_text(kind: str, data: st.DataObject) -> None:
    text, vocab_size = text_model(kind)
    low = st.integers(0, min(40, vocab_size - 1))  # special and byte tokens, often
    ids = data.draw(st.lists(low | st.integers(0, vocab_size - 1), max_size=24))
    assert "".join(streamed(text, ids)) == text.decode(ids)


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
@pytest.mark.parametrize("words", ["👍🏽 family 👨‍👩‍👧 ok", "naïve café", "日本語のテキスト", "plain"])
def test_no_piece_shows_half_a_character(kind: str, words: str) -> None:
    text, _ = text_model(kind)
    pieces = streamed(text, text.encode(words))
    assert "".join(pieces) == words
    assert not any("\ufffd" in piece for piece in pieces)


def test_text_is_not_held_back_without_need() -> None:
    text, _ = text_model("byte_level")
    *pieces, rest = streamed(text, text.encode("hello world"))
    assert all(pieces)
    assert rest == ""


def test_an_unfinished_character_becomes_a_replacement_at_the_end() -> None:
    text, _ = text_model("byte_level")
    detokenizer = text.detokenizer()
    first_byte = text.encode("😀")[0]
    assert detokenizer.step(first_byte) == ""
    assert detokenizer.flush() == text.decode([first_byte]) == "\ufffd"
