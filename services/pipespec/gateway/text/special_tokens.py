"""What ``tokenizer_config.json`` says about special tokens, read as transformers reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def named_special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the named tokens, e.g. ``{"eos_token": "<|im_end|>"}``; templates see them as variables."""
    named = {}
    for name in NAMED:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            named[name] = text
    return named


def complete(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Make every named token a special token, as transformers does.

    ``add_bos_token`` and ``add_eos_token`` have no effect beside a ``tokenizer.json``: its post-processor decides.
    """
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    named = named_special_tokens(config).values()
    missing = [AddedToken(text, special=True, normalized=False) for text in named if text not in known]
    if missing:
        tokenizer.add_special_tokens(missing)
