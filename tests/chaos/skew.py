"""What is right when target replicas disagree, and who is kept out."""

from __future__ import annotations

from chaos.clients import DONE, Stream
from chaos.fleet import Fleet
from chaos.programs.forked import other
from chaos.service import until
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer
from pipespec.emulation.words import HashLanguage, extend


def both_languages(fleet: Fleet) -> tuple[HashLanguage, HashLanguage]:
    """Of the target and of the replica that computes otherwise (``programs/forked.py``)."""
    *drafts, target = fleet.pipeline.stages
    return language_of([*drafts, target]), language_of([*drafts, other(target)])


def check_joined(stream: Stream, languages: tuple[HashLanguage, HashLanguage]) -> bool:
    """That each token is the choice of one of both for what was committed before it; whether both have spoken."""
    assert stream.ends == [DONE], (stream.prompt, stream.ends)
    tokenizer = byte_tokenizer()
    prompt = tokenizer.encode(stream.prompt).ids
    ids = stream.ids or tokenizer.encode(stream.text).ids
    assert len(ids) == stream.num_tokens
    assert stream.num_gaps == 0
    states = [language.state_of(prompt) for language in languages]
    spoken = set()
    for position, token in enumerate(ids):
        choices = [
            int(language.pick(state, language.target))
            for language, state in zip(languages, states, strict=True)
        ]
        assert token in choices, f"{stream.prompt!r}: nobody says {token} at {position}"
        if choices[0] != choices[1]:
            spoken.add(choices.index(token))
        states = [extend(state, token) for state in states]
    return spoken == {0, 1}


async def is_refused(fleet: Fleet, replica: str) -> None:
    """Wait until every gateway has said that a target replica does not fit, with both digests."""
    name = f"{len(fleet.pipeline.stages) - 1}.{replica}"

    def all_say_so() -> bool:
        return all(_says(fleet.gateway(gateway).said(), name) for gateway in fleet.gateways)

    await until(all_say_so)


def _says(log: str, name: str) -> bool:
    lines = [line for line in log.splitlines() if "replica.incompatible" in line and name in line]
    words = ("weights=", "expected_weights=", "tokenizer=", "expected_tokenizer=")
    return any(all(word in line for word in words) for line in lines)
