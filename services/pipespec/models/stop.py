"""Where a model folder says which tokens end its output.

Read without torch: the gateway puts these ids into every session's ``Sampling.stop_ids``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipespec.models.folder import read_json


def stop_ids(folder: Path) -> tuple[int, ...]:
    """Ids of the tokens that end a generation, ascending; empty when the folder names none.

    The first source that names any decides, as in transformers' ``generate``: ``generation_config.json``, then
    ``config.json``, then the tokenizer's ``eos_token``.
    """
    for name in ("generation_config.json", "config.json"):
        ids = _as_ids(read_json(folder / name).get("eos_token_id"))
        if ids:
            return ids
    return _from_tokenizer(folder)


def _as_ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(sorted({item for item in values if type(item) is int}))


def _from_tokenizer(folder: Path) -> tuple[int, ...]:
    eos = read_json(folder / "tokenizer_config.json").get("eos_token")
    text = eos.get("content") if isinstance(eos, dict) else eos
    tokenizer = read_json(folder / "tokenizer.json")
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", ())}
    return _as_ids(added.get(text))
