"""The text side of emulated stages: one token per byte, and words that are printable characters.

Built in, so that a gateway needs no model folder. Any text can be a prompt; what is said is one line without blanks.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from pipespec.emulation.words import HashLanguage

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCAB_SIZE = len(SPECIAL) + 256
FIRST_WORD = len(SPECIAL)
NUM_WORDS = 94
"""``!`` … ``~``, the first of the byte alphabet. No special token is ever said: a text ends where it is told to."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer() -> Tokenizer:
    """One token per byte after the special ones: ``VOCAB_SIZE`` ids, any text round-trips."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def language(seed: int, agreements: Sequence[float]) -> HashLanguage:
    """The language of a chain in this vocabulary; arguments as of ``HashLanguage``."""
    return HashLanguage(seed, NUM_WORDS, tuple(agreements), first_word=FIRST_WORD)
