"""The token log: the whole state of a session at a stage, with a digest at every position.

``digest[0]`` covers the chain's identity and the prompt; ``digest[n + 1] = mix(digest[n], token[n])``. Two logs hold
the same first n tokens exactly when their digests at n are equal, so one comparison of 16 bytes tells whether a
message fits. Truncation forgets digests too; nothing is ever rehashed.

Shape symbols: P = prompt length, N = generated tokens held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import DIGEST_LEN, Digest, Position, TokenId
from pipespec.protocol.messages import ChainIdentity


def first_digest(identity: ChainIdentity, prompt: Iterable[TokenId]) -> Digest:
    """Digest of a log without generated tokens.

    The prompt is mixed in token by token with the same rule as what follows it, so that equal prefixes of different
    prompts have equal digests: a prefix cache can use the chain as its key.
    """
    seed = b"pipespec.v1\0" + identity.weights + identity.tokenizer
    digest = Digest(blake2b(seed, digest_size=DIGEST_LEN).digest())
    for token in prompt:
        digest = mix(digest, token)
    return digest


def mix(digest: Digest, token: TokenId) -> Digest:
    """BLAKE2b-128 of the digest and the token id as four little-endian bytes."""
    return Digest(blake2b(digest + token.to_bytes(4, "little"), digest_size=DIGEST_LEN).digest())


class TokenLog:
    """Generated tokens in order, and the digest chain over them."""

    __slots__ = ("_digests", "_tokens", "prompt")

    def __init__(self, identity: ChainIdentity, prompt: Sequence[TokenId]) -> None:
        self.prompt = tuple(prompt)
        self._tokens: list[TokenId] = []
        self._digests: list[Digest] = [first_digest(identity, self.prompt)]

    def __len__(self) -> int:
        """Generated tokens held, N."""
        return len(self._tokens)

    def digest_at(self, position: int) -> Digest:
        """Digest of the first ``position`` tokens, 0 <= position <= N."""
        return self._digests[position]

    def slice(self, start: int, end: int) -> tuple[TokenId, ...]:
        """Tokens at positions [start, end)."""
        return tuple(self._tokens[start:end])

    def all_tokens(self, start: int, end: int) -> tuple[TokenId, ...]:
        """Tokens at [start, end) of prompt + generated, counted from the prompt's first token."""
        num_prompt = len(self.prompt)
        if start >= num_prompt:
            return tuple(self._tokens[start - num_prompt : end - num_prompt])
        return self.prompt[start:end] + tuple(self._tokens[: max(0, end - num_prompt)])

    def last(self) -> TokenId | None:
        """The newest token, None before the first."""
        return self._tokens[-1] if self._tokens else None

    def extend(self, tokens: Iterable[TokenId]) -> None:
        """Append tokens."""
        digest = self._digests[-1]
        for token in tokens:
            digest = mix(digest, token)
            self._tokens.append(token)
            self._digests.append(digest)

    def truncate(self, length: int) -> None:
        """Keep the first ``length`` tokens.

        Raises:
            InvariantBroken: there are fewer.
        """
        if not 0 <= length <= len(self._tokens):
            raise InvariantBroken(f"truncate to {length} tokens, but the log holds {len(self._tokens)}")
        del self._tokens[length:]
        del self._digests[length + 1 :]

    def common_prefix(self, base: Position, tokens: Sequence[TokenId]) -> int:
        """Where ``tokens``, laid over the log from ``base``, first differ from it or leave it; a position."""
        held = self._tokens
        end = min(len(held), base + len(tokens))
        position = int(base)
        while position < end and held[position] == tokens[position - base]:
            position += 1
        return position
