"""The emulated engine: under any schedule it says what its language says, and its steps take what its curve says."""

from __future__ import annotations

import random
from statistics import mean, pstdev

import pytest

from engine.schedule import Script, make_work, run_interleaved
from pipespec.emulation.curve import LatencyCurve
from pipespec.emulation.words import HashLanguage
from pipespec.engine.emulated import Device, EmulatedEngine, EmulatedLimits
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling

VOCAB = 50
LANGUAGE = HashLanguage(seed=3, vocab_size=VOCAB, agreements=(0.6,))
LIMITS = EmulatedLimits(max_batch=64, max_chunk=32, max_step_tokens=512, vocab_size=VOCAB, context_len=400)
SESSION = SessionId(b"s" * 16)
CURVE = LatencyCurve(((1, 120.0), (2, 400.0), (10, 480.0)), session_ms=5.0)
START_S = 1000.0


class VirtualTime:
    """A clock that moves when somebody sleeps, and a little whenever it is read."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def engine_of(rank: int, *, time: VirtualTime | None = None, jitter: float = 0.0) -> EmulatedEngine:
    time = time or VirtualTime()
    device = Device(CURVE, jitter=jitter, seed=1, clock=time, sleep=time.sleep)
    return EmulatedEngine(LANGUAGE, rank=rank, device=device, limits=LIMITS)


def opened(engine: EmulatedEngine, *, sessions: int = 1) -> list[SessionId]:
    ids = [SessionId(bytes([n]) * 16) for n in range(sessions)]
    for session in ids:
        engine.open(session, prompt=(), sampling=Sampling())
    return ids


def took_s(num_tokens: list[int], *, jitter: float = 0.0) -> float:
    """Virtual seconds of one step with so many tokens per session."""
    time = VirtualTime()
    engine = engine_of(1, time=time, jitter=jitter)
    sessions = opened(engine, sessions=len(num_tokens))
    engine.step(
        [
            make_work(session, start=0, tokens=[1] * n, num_candidates=0, num_prompt=1, room=1)
            for session, n in zip(sessions, num_tokens, strict=True)
        ]
    )
    return time.now_s - START_S


@pytest.mark.parametrize("seed", range(20))
def test_the_target_says_its_text_under_any_schedule_of_many_sessions(seed: int) -> None:
    """Chunked prefill, right and wrong candidates, rollbacks, sessions that share steps."""
    source = random.Random(seed)
    scripts = []
    for _ in range(4):
        prompt = [source.randrange(VOCAB) for _ in range(source.choice((1, 5, 70)))]
        reference = LANGUAGE.target_text(prompt, 60)
        scripts.append(
            Script(prompt=prompt, reference=reference, vocab_size=VOCAB, seed=source.getrandbits(32))
        )
    run_interleaved(engine_of(LANGUAGE.target), scripts, sampling=Sampling(seed=9), seed=seed)
    for script in scripts:
        assert script.picked[:60] == list(script.reference)


def test_a_draft_says_its_own_words_after_every_prefix() -> None:
    prompt = (4, 5, 6)
    text = LANGUAGE.target_text(prompt, 20)
    engine = engine_of(0)
    (session,) = opened(engine)
    work = make_work(session, start=0, tokens=(*prompt, *text), num_candidates=20, num_prompt=3, room=21)
    (outcome,) = engine.step([work])
    prefixes = [LANGUAGE.state_of((*prompt, *text[:n])) for n in range(21)]
    assert list(outcome.picks) == [LANGUAGE.pick(state, 0) for state in prefixes]
    assert list(outcome.picks) != [*text, outcome.picks[-1]]  # it disagrees at times


def test_with_temperature_the_sessions_seed_decides_and_without_it_does_not() -> None:
    def first_words(sampling: Sampling) -> tuple[TokenId, ...]:
        engine = engine_of(1)
        engine.open(SESSION, prompt=(), sampling=sampling)
        work = make_work(SESSION, start=0, tokens=range(12), num_candidates=11, num_prompt=1, room=12)
        return tuple(engine.step([work])[0].picks)

    assert first_words(Sampling(seed=1)) == first_words(Sampling(seed=2))
    warm = [first_words(Sampling(temperature=0.7, seed=seed)) for seed in (1, 2, 1)]
    assert warm[0] == warm[2] != warm[1]


@pytest.mark.parametrize(
    ("num_tokens", "milliseconds"), [([1], 120), ([2], 400), ([6], 440), ([1, 1], 405), ([1, 4, 5], 490)]
)
def test_a_step_takes_what_the_curve_says_for_the_tokens_of_all_sessions(
    num_tokens: list[int], milliseconds: int
) -> None:
    assert took_s(num_tokens) == pytest.approx(milliseconds / 1000, abs=20e-6)


def test_jitter_spreads_the_times_around_the_curve() -> None:
    time = VirtualTime()
    device = Device(CURVE, jitter=0.1, seed=1, clock=time, sleep=time.sleep)
    times = [device.launch(num_tokens=1, num_sessions=1) - time.now_s for _ in range(2000)]
    assert mean(times) == pytest.approx(0.120, rel=0.01)
    assert pstdev(times) == pytest.approx(0.012, rel=0.1)
    assert min(times) > 0


def test_the_device_computes_while_the_caller_does_other_things() -> None:
    """What is done meanwhile comes out of the wait, not on top of it."""
    time = VirtualTime()
    engine = engine_of(1, time=time)
    (session,) = opened(engine)
    work = make_work(session, start=0, tokens=[1], num_candidates=0, num_prompt=1, room=1)
    engine.step([work], meanwhile=lambda: time.sleep(0.1))
    assert time.now_s - START_S == pytest.approx(0.120, abs=20e-6)


def test_who_was_busy_for_longer_than_the_step_does_not_sleep() -> None:
    time = VirtualTime()
    engine = engine_of(1, time=time)
    (session,) = opened(engine)
    work = make_work(session, start=0, tokens=[1], num_candidates=0, num_prompt=1, room=1)
    engine.step([work], meanwhile=lambda: time.sleep(0.5))
    assert time.slept == [0.5]


def test_work_beyond_what_is_held_computes_nothing_and_says_so() -> None:
    engine = engine_of(1)
    (session,) = opened(engine)
    engine.step([make_work(session, start=0, tokens=[1, 2], num_candidates=0, num_prompt=9, room=0)])
    (outcome,) = engine.step(
        [make_work(session, start=5, tokens=[3], num_candidates=0, num_prompt=9, room=1)]
    )
    assert (list(outcome.picks), outcome.held) == ([], 2)


def test_a_prefill_chunk_gives_no_picks() -> None:
    engine = engine_of(1)
    (session,) = opened(engine)
    (outcome,) = engine.step(
        [make_work(session, start=0, tokens=[1, 2], num_candidates=0, num_prompt=9, room=0)]
    )
    assert (list(outcome.picks), outcome.held) == ([], 2)


@pytest.mark.parametrize(
    ("tokens", "start", "num_candidates", "said"),
    [
        ([1] * 33, 0, 0, "1 to 32 tokens"),
        ([1], 0, 1, "more than the 1 candidates"),
        ([1], 400, 0, "401 tokens, the context is 400"),
        ([VOCAB], 0, 0, f"token {VOCAB}, the vocabulary has {VOCAB}"),
    ],
)
def test_work_that_does_not_fit_is_a_broken_invariant(
    tokens: list[int], start: int, num_candidates: int, said: str
) -> None:
    engine = engine_of(1)
    (session,) = opened(engine)
    work = make_work(session, start=start, tokens=tokens, num_candidates=num_candidates, num_prompt=1, room=1)
    with pytest.raises(InvariantBroken, match=said):
        engine.step([work])


def test_a_closed_session_gets_no_more_work() -> None:
    engine = engine_of(1)
    (session,) = opened(engine)
    engine.close(session)
    engine.close(session)
    with pytest.raises(InvariantBroken, match="not open"):
        engine.step([make_work(session, start=0, tokens=[1], num_candidates=0, num_prompt=1, room=1)])
