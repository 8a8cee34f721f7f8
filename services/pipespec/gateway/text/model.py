"""The text side of one model: what its tokenizer and its chat template make of a prompt.

Sits between the client adapters, which speak text, and the backend, which speaks token ids. Equal to transformers'
``tokenizer(text)`` and ``apply_chat_template`` for the same folder, but for one thing: a message that spells a special
token is encoded as text. Loaded once, then only read; safe to use from several threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer
from tokenizers.models import BPE

from pipespec.gateway.text.chat_template import ChatMessage, ChatTemplate
from pipespec.gateway.text.detokenizer import Detokenizer
from pipespec.gateway.text.quoting import Quoting, special_text
from pipespec.gateway.text.special_tokens import complete, named_special_tokens
from pipespec.models.folder import read_json
from pipespec.models.stop import stop_ids
from pipespec.ops.errors import ModelError, RequestError


class TextModel:
    """A tokenizer, a chat template where the model has one, and the ids that end a text."""

    def __init__(
        self, tokenizer: Tokenizer, *, template: ChatTemplate | None = None, stop_ids: tuple[int, ...] = ()
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = template
        self.stop_ids = stop_ids
        added = tokenizer.get_added_tokens_decoder()
        self._special_ids = frozenset(token for token, text in added.items() if text.special)
        self._special_text = special_text(text.content for text in added.values() if text.special)
        self._byte_ids = _byte_ids(tokenizer)
        self._max_bytes_per_token = _max_bytes_per_token(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja`` from a model folder.

        Raises:
            ModelError: there is no usable tokenizer, or the template does not compile.
        """
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"cannot load {folder / 'tokenizer.json'}: {error}") from error
        config = read_json(folder / "tokenizer_config.json")
        complete(tokenizer, config)
        source = _template_source(folder, config)
        template = ChatTemplate(source, special_tokens=named_special_tokens(config)) if source else None
        return cls(tokenizer, template=template, stop_ids=stop_ids(folder))

    def min_tokens(self, text: str) -> int:
        """A lower bound on ``len(encode(text))`` that costs nothing; 0 where the tokenizer allows none."""
        return len(text.encode()) // self._max_bytes_per_token if self._max_bytes_per_token else 0

    def encode(self, text: str) -> list[int]:
        """Token ids of a raw prompt, with whatever the tokenizer adds around it (BOS); special tokens are read."""
        return list(self._tokenizer.encode(text).ids)

    def render_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Token ids of a conversation, up to where the assistant's next turn begins.

        Raises:
            RequestError: the model has no chat template, or its template refuses the messages.
        """
        if self._template is None:
            raise RequestError(
                "this model has no chat template; send a text prompt instead of messages",
                code="no_chat_template",
                param="messages",
            )
        quoting = Quoting(self._special_text)
        quoted = [ChatMessage(message.role, quoting.quote(message.content)) for message in messages]
        text = self._template.render(quoted)
        if quoting.is_used:
            return self._encode_quoted(text, quoting)
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def detokenizer(self) -> Detokenizer:
        """A decoder for one new stream."""
        return Detokenizer(self._tokenizer, special_ids=self._special_ids, byte_ids=self._byte_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of all of ``ids``, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _encode_quoted(self, text: str, quoting: Quoting) -> list[int]:
        """Ids of rendered text with marks: special tokens of the template are read, those under marks are not.

        The text is cut at the template's special tokens and the runs between them are encoded one by one, as the
        tokenizer does itself; only a tokenizer that treats its first run apart may put in a space more.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = []
        end_of_last = 0
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._special_ids:
                ids += self._encode_plain(quoting.unquote(text[end_of_last:start]))
                ids.append(token)
                end_of_last = end
        return ids + self._encode_plain(quoting.unquote(text[end_of_last:]))

    def _encode_plain(self, text: str) -> list[int]:
        return list(self._plain_tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _plain_tokenizer(self) -> Tokenizer:
        """A copy that reads special tokens as text. Made when first needed: the switch is per tokenizer."""
        plain = Tokenizer.from_str(self._tokenizer.to_str())
        plain.encode_special_tokens = True
        return plain


def _template_source(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    source = config.get("chat_template")
    if isinstance(source, list):  # several, by name
        source = {entry["name"]: entry["template"] for entry in source}.get("default")
    return source if isinstance(source, str) else None


def _byte_ids(tokenizer: Tokenizer) -> frozenset[int]:
    if "ByteFallback" not in repr(tokenizer.decoder):
        return frozenset()
    ids = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
    return frozenset(token for token in ids if token is not None)


def _max_bytes_per_token(tokenizer: Tokenizer) -> int:
    """Most bytes of a text that one token can stand for; 0 where a token may stand for any number."""
    model = tokenizer.model
    swallows = any(token.lstrip or token.rstrip for token in tokenizer.get_added_tokens_decoder().values())
    if tokenizer.normalizer is not None or not isinstance(model, BPE) or model.unk_token or swallows:
        return 0
    return max(len(text.encode()) for text in tokenizer.get_vocab(with_added_tokens=True))
