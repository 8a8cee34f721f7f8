"""The built-in vocabulary reads any text and says printable characters only."""

from __future__ import annotations

import pytest

from pipespec.emulation.vocabulary import FIRST_WORD, NUM_WORDS, VOCAB_SIZE, byte_tokenizer, language


@pytest.mark.parametrize("text", ["plain", "Grüße 🙂\n\ttabs", "日本", " \x00 ", ""])
def test_any_text_is_one_token_per_byte_and_comes_back(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    assert all(token < VOCAB_SIZE for token in ids)
    assert tokenizer.decode(ids) == text


def test_the_words_are_the_printable_characters() -> None:
    words = range(FIRST_WORD, FIRST_WORD + NUM_WORDS)
    assert byte_tokenizer().decode(list(words)) == "".join(map(chr, range(ord("!"), ord("~") + 1)))
    assert set(language(0, (0.5,)).target_text((), 3000)) == set(words)


def test_special_tokens_are_read_as_one_and_have_no_text() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.encode("<|im_start|>a<|im_end|>").ids == [1, *tokenizer.encode("a").ids, 2]
    assert tokenizer.decode([0, 1, 2]) == ""
