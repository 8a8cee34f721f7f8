"""What ``tokenizer_config.json`` says about special tokens, read as transformers reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

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
    """Bring ``tokenizer`` to the state in which transformers would use it.

    Every named token becomes a special token, and ``add_bos_token`` / ``add_eos_token`` replace the post-processor
    where the config sets them.
    """
    named = named_special_tokens(config)
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = [
        AddedToken(text, special=True, normalized=False) for text in named.values() if text not in known
    ]
    if missing:
        tokenizer.add_special_tokens(missing)
    if "add_bos_token" in config or "add_eos_token" in config:
        bos = named.get("bos_token") if config.get("add_bos_token") else None
        eos = named.get("eos_token") if config.get("add_eos_token") else None
        used = {text: tokenizer.token_to_id(text) for text in (bos, eos) if text is not None}
        tokenizer.post_processor = TemplateProcessing(
            single=" ".join(part for part in (bos, "$A", eos) if part is not None),
            special_tokens=list(used.items()),
        )
