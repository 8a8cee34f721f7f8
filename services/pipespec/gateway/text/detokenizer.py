"""Token ids to text, one at a time, for one stream.

The pieces joined are exactly the decoded text of all ids without special tokens. A piece waits while its text could
still change: in the middle of a multi-byte character, or in a run of byte tokens (``<0xF0>``), whose bytes are decoded
together: one bad byte turns the whole run into replacement characters.
"""

from __future__ import annotations

from collections.abc import Container

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class Detokenizer:
    """Decodes one stream.

    Args:
        tokenizer: shared, only read.
        special_ids: have no text.
        byte_ids: byte tokens of a tokenizer with byte fallback; empty for others.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, special_ids: Container[int], byte_ids: Container[int] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._special_ids = special_ids
        self._byte_ids = byte_ids
        self._stream = DecodeStream(skip_special_tokens=True)
        self._all: list[int] = []
        self._waiting: list[int] = []
        self._num_chars = 0

    def step(self, token: int) -> str:
        """Text that ``token`` makes final; may be empty."""
        if token in self._special_ids:
            return ""
        self._all.append(token)
        self._waiting.append(token)
        if token in self._byte_ids:
            return ""
        text = self._stream.step(self._tokenizer, self._waiting) or ""
        self._waiting.clear()
        self._num_chars += len(text)
        return text

    def flush(self) -> str:
        """Text still waiting, as it decodes when nothing follows. Call it once, at the end."""
        return self._tokenizer.decode(self._all, skip_special_tokens=True)[self._num_chars :]
