"""Digests that tell whether two replicas run the same model with the same vocabulary.

They travel in heartbeats and in ``open``; only stages with equal digests may serve one session. Computed without
torch, and within seconds for any size: weights are sampled, not read whole.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

from tokenizers import Tokenizer

from pipespec.ops.errors import ModelError

IDENTITY_LEN = 16

_BLOCK = 4096
_MAX_HEADER = 100_000_000
"""Bytes; the safetensors format's own limit."""
_INCIDENTAL = ("_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Config keys that say where a file came from; the dtype that computes is passed by the caller."""


def weights_digest(folder: Path, *, dtype: str) -> bytes:
    """16 bytes over what the output of a model depends on.

    Covers ``dtype`` (what it computes in), ``config.json`` without incidental keys, and of every safetensors file its
    name, size, header (tensor names, shapes, types) and, of every tensor, the first 4 KiB and 4 KiB from its middle.
    It tells apart other architectures, sizes, roundings, fine-tunes, merges and cut-off files. It does not see a
    change that leaves the sampled bytes of every tensor as they were: it is an identity, not a signature.

    Raises:
        ModelError: a file cannot be read, or is not a safetensors file.
    """
    digest = hashlib.blake2b(b"pipespec weights 1\0", digest_size=IDENTITY_LEN)
    _add(digest, dtype.encode())
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kept = {key: value for key, value in config.items() if key not in _INCIDENTAL}
        _add(digest, json.dumps(kept, sort_keys=True).encode())
        for path in sorted(folder.glob("*.safetensors")):
            _add(digest, path.name.encode())
            _add(digest, struct.pack("<Q", path.stat().st_size))
            with path.open("rb") as file:
                _add_tensors(digest, file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"cannot read the weights in {folder}: {error!r}; fetch the model again") from error
    return digest.digest()


def tokenizer_digest(folder: Path) -> bytes:
    """16 bytes over the vocabulary: all (id, token string) pairs, added tokens too.

    Ids are all that travels between stages, so neither chat templates nor how text is split count.

    Raises:
        ModelError: ``tokenizer.json`` cannot be read.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(f"cannot read {path}: {error}") from error
    return vocabulary_digest(tokenizer)


def vocabulary_digest(tokenizer: Tokenizer) -> bytes:
    """``tokenizer_digest`` of a tokenizer that is loaded already."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    digest = hashlib.blake2b(b"pipespec tokenizer 1\0", digest_size=IDENTITY_LEN)
    for token_id, token in sorted((token_id, token) for token, token_id in vocabulary.items()):
        digest.update(struct.pack("<I", token_id))
        _add(digest, token.encode())
    return digest.digest()


def _add(digest: hashlib.blake2b, part: bytes) -> None:
    """Add one field with its length, so that no two lists of fields read alike."""
    digest.update(struct.pack("<Q", len(part)))
    digest.update(part)


def _add_tensors(digest: hashlib.blake2b, file: BinaryIO) -> None:
    """Header and samples of one safetensors file: 8 bytes little-endian header length, JSON header, data."""
    (header_len,) = struct.unpack("<Q", file.read(8))
    if header_len > _MAX_HEADER:
        raise ValueError(f"{file.name}: header length {header_len}")
    header = file.read(header_len)
    _add(digest, header)
    data_start = 8 + header_len
    tensors: dict[str, Any] = json.loads(header)
    for name, tensor in sorted(tensors.items()):
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        middle = max(begin + _BLOCK, (begin + end) // 2)
        for offset in (begin, middle):
            file.seek(data_start + offset)
            digest.update(file.read(max(0, min(_BLOCK, end - offset))))
