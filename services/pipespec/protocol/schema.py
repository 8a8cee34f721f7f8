"""Field types of the bus: how each is packed, and what is checked when it arrives.

A message body is a msgpack array of fields in a fixed order. Nothing is optional, unknown fields do not exist, and
every length has a limit, so that a hostile or broken peer costs at most one bounded parse.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipespec.ops.errors import InvariantBroken, MalformedMessage

_U32 = "I" if array("I").itemsize == 4 else "L"


@dataclass(frozen=True, slots=True)
class FieldType:
    """How one kind of value crosses the bus.

    Attributes:
        name: for the schema document, with unit and limit.
        pack: value to msgpack value.
        unpack: msgpack value to value; raises ``MalformedMessage``.
    """

    name: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def bytes_of(length: int, *, or_empty: bool = False) -> FieldType:
    """Exactly ``length`` bytes, or none where that is allowed."""

    def unpack(value: Any) -> bytes:
        if type(value) is bytes and (len(value) == length or (or_empty and not value)):
            return value
        raise MalformedMessage(f"expected {length} bytes, got {_shown(value)}")

    return FieldType(f"bin{length}{' or empty' if or_empty else ''}", _same, unpack)


def blob(max_len: int) -> FieldType:
    """Bytes that the bus does not look into."""

    def unpack(value: Any) -> bytes:
        if type(value) is bytes and len(value) <= max_len:
            return value
        raise MalformedMessage(f"expected at most {max_len} bytes, got {_shown(value)}")

    return FieldType(f"bin <= {max_len} bytes", _same, unpack)


def uint(bits: int, *, below: int | None = None) -> FieldType:
    """An unsigned integer."""
    limit = 2**bits if below is None else below

    def unpack(value: Any) -> int:
        if type(value) is int and 0 <= value < limit:
            return value
        raise MalformedMessage(f"expected an integer from 0 to {limit - 1}, got {_shown(value)}")

    return FieldType(f"uint{bits}" + (f" < {below}" if below else ""), int, unpack)


def text(max_bytes: int) -> FieldType:
    """UTF-8 text."""

    def unpack(value: Any) -> str:
        if type(value) is str and len(value.encode()) <= max_bytes:
            return value
        raise MalformedMessage(f"expected text of at most {max_bytes} bytes, got {_shown(value)}")

    return FieldType(f"str <= {max_bytes} bytes", str, unpack)


def boolean() -> FieldType:
    """True or false."""

    def unpack(value: Any) -> bool:
        if type(value) is bool:
            return value
        raise MalformedMessage(f"expected a boolean, got {_shown(value)}")

    return FieldType("bool", _same, unpack)


def number() -> FieldType:
    """A finite 64-bit float."""

    def unpack(value: Any) -> float:
        if type(value) is float and math.isfinite(value):
            return value
        raise MalformedMessage(f"expected a finite float, got {_shown(value)}")

    return FieldType("float64, finite", float, unpack)


def tokens(max_len: int) -> FieldType:
    """Token ids as little-endian 32-bit words in one byte string: four bytes each, nothing to check but the length."""

    def pack(value: tuple[int, ...]) -> bytes:
        words = array(_U32, value)
        if sys.byteorder == "big":
            words.byteswap()
        return words.tobytes()

    def unpack(value: Any) -> tuple[int, ...]:
        if type(value) is not bytes or len(value) % 4 or len(value) > 4 * max_len:
            raise MalformedMessage(f"expected at most {max_len} packed token ids, got {_shown(value)}")
        words = array(_U32)
        words.frombytes(value)
        if sys.byteorder == "big":
            words.byteswap()
        return tuple(words)

    return FieldType(f"bin, uint32 LE, <= {max_len} ids", pack, unpack)


def listing(item: FieldType, max_len: int) -> FieldType:
    """A list of one type."""

    def pack(value: tuple[Any, ...]) -> list[Any]:
        return [item.pack(one) for one in value]

    def unpack(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > max_len:
            raise MalformedMessage(f"expected a list of at most {max_len}, got {_shown(value)}")
        return tuple(item.unpack(one) for one in value)

    return FieldType(f"list of [{item.name}], <= {max_len}", pack, unpack)


@dataclass(frozen=True, slots=True)
class Struct:
    """A dataclass as an array of its fields, in this order."""

    type: type[Any]
    fields: tuple[tuple[str, FieldType], ...]
    _packers: tuple[tuple[str, Callable[[Any], Any]], ...] = field(init=False, repr=False, compare=False)
    _unpackers: tuple[Callable[[Any], Any], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look the functions up once: every message of the bus passes here."""
        object.__setattr__(self, "_packers", tuple((name, one.pack) for name, one in self.fields))
        object.__setattr__(self, "_unpackers", tuple(one.unpack for _, one in self.fields))

    def pack(self, value: Any) -> list[Any]:
        """The fields' packed values."""
        return [pack(getattr(value, name)) for name, pack in self._packers]

    def unpack(self, value: Any, *fixed: Any) -> Any:
        """Build the dataclass; ``fixed`` are its first fields where they are not in the array.

        Raises:
            MalformedMessage: not an array of just these fields; the message names the field.
        """
        if type(value) is not list or len(value) != len(self.fields):
            raise MalformedMessage(
                f"expected {len(self.fields)} fields of {self.type.__name__}, got {_shown(value)}"
            )
        try:
            unpacked = [unpack(one) for unpack, one in zip(self._unpackers, value, strict=True)]
        except MalformedMessage:
            raise self._named(value) from None
        return self.type(*fixed, *unpacked)

    def _named(self, value: Any) -> MalformedMessage:
        """The problem with the first field that does not fit, with the field's name."""
        for (name, field_type), one in zip(self.fields, value, strict=True):
            try:
                field_type.unpack(one)
            except MalformedMessage as error:
                return MalformedMessage(f"{self.type.__name__}.{name}: {error}")
        raise InvariantBroken(f"{self.type.__name__}: unpacking fails only sometimes")

    def as_field(self) -> FieldType:
        """The struct as a field of another."""
        inner = ", ".join(f"{name}: {field_type.name}" for name, field_type in self.fields)
        return FieldType(inner, self.pack, self.unpack)


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:60]
