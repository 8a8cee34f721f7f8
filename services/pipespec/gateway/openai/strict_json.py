"""JSON that means one thing only: no duplicate keys, no NaN, no deep nesting, no lone surrogates."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from pipespec.ops.errors import RequestError

MAX_DEPTH = 32


def parse_json(raw: bytes) -> Any:
    """The document in ``raw``.

    Raises:
        RequestError: ``invalid_json``; the message says what is wrong.
    """
    try:
        document = json.loads(raw, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        if b"\\u" in raw:
            json.dumps(document, ensure_ascii=False).encode()  # fails on a surrogate without its pair
    except RequestError:
        raise
    except RecursionError:
        raise _invalid(f"it is nested deeper than {MAX_DEPTH}") from None
    except UnicodeEncodeError:
        raise _invalid("a string holds a surrogate without its pair") from None
    except ValueError as error:
        raise _invalid(str(error)) from error
    if _depth_exceeds(document, MAX_DEPTH):
        raise _invalid(f"it is nested deeper than {MAX_DEPTH}")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add() returns None: false
        raise _invalid(f"the key {duplicate[:80]!r} appears twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise _invalid(f"{text} is not JSON")


def _depth_exceeds(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return False
    return True


def _invalid(reason: str) -> RequestError:
    return RequestError(f"the body is not valid JSON: {reason}", code="invalid_json")
