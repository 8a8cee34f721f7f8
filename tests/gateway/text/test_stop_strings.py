"""Stop strings across any borders."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipespec.gateway.text import StopStrings

pieces = st.lists(st.text("ab\n", max_size=4), max_size=8)
stops = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=4)


def reference(text: str, strings: list[str]) -> str:
    """Character by character: cut before the first stop string that is complete."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in strings if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(pieces, stops)
def test_the_text_ends_exactly_before_the_stop_string_wherever_pieces_break(
    pieces: list[str], stops: list[str]
) -> None:
    watch = StopStrings(stops)
    delivered = "".join(watch.push(piece) for piece in pieces) + watch.flush()
    whole = "".join(pieces)
    assert delivered == reference(whole, stops)
    assert (watch.hit is not None) == any(stop in whole for stop in stops)


@given(pieces, stops)
def test_only_what_may_become_a_stop_string_is_held_back(pieces: list[str], stops: list[str]) -> None:
    watch = StopStrings(stops)
    delivered = "".join(watch.push(piece) for piece in pieces)
    held = watch.flush()
    if watch.hit is None:
        assert delivered + held == "".join(pieces)
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_nothing_is_delivered_after_a_hit() -> None:
    watch = StopStrings(["END"])
    assert watch.push("one EN") == "one "
    assert watch.push("D two") == ""
    assert watch.push("three") == ""
    assert watch.flush() == ""
    assert watch.hit == "END"
