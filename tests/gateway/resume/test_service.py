"""Resumable streams on the event loop: generations are closed whatever happens, and bugs are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from structlog.testing import capture_logs

from gateway.resume.fellows import MemoryBus, keeping
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.generation import Delta, Event, GenerationRequest, Generator, TextPrompt
from pipespec.gateway.resume import ResumeMetrics, StreamToken, parse_resume_id, resuming
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import Overloaded, RequestError
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.ids import TokenId, gateway_inbox
from pipespec.protocol.messages import EndReason

STREAM = bytes(range(16))


class Texts:
    """Frames that are the text alone; fails where it is told to."""

    def __init__(self, fails_at: str | None = None, *, repeat: int = 1) -> None:
        self._fails_at = fails_at
        self._repeat = repeat

    def frames(self, event: Event) -> Iterable[bytes]:
        if isinstance(event, Delta) and event.text:
            if self._fails_at and self._fails_at in event.text:
                raise KeyError("a bug")
            yield event.text.encode() * self._repeat

    def last_frames(self) -> Iterable[bytes]:
        return (b"|",)


@pytest.fixture
def generator(backend: ScriptedBackend, text: TextModel, settings: GatewaySettings) -> Generator:
    return Generator(backend=backend, text=text, settings=settings, model_name="small", protocol="grpc")


def ask() -> GenerationRequest:
    return GenerationRequest(prompts=(TextPrompt("hello"),))


async def test_a_stream_is_read_to_its_last_frames(generator: Generator, settings: GatewaySettings) -> None:
    async with (
        keeping(settings) as service,
        service.start(await generator.start(ask()), Texts(), protocol="grpc", principal="") as reader,
    ):
        frames = [frame async for frame in reader]
    assert b"".join(frame.content for frame in frames).decode() == "Hello 👍🏽 world!|"
    assert [frame.index for frame in frames] == list(range(len(frames)))


async def test_cancelled_before_its_first_step_the_session_is_closed_all_the_same(
    generator: Generator, backend: ScriptedBackend, settings: GatewaySettings
) -> None:
    backend.default = [asyncio.Event()]
    async with keeping(settings) as service:
        reader = service.start(await generator.start(ask()), Texts(), protocol="grpc", principal="")
        await service.cancel(reader.token, protocol="grpc", principal="")
        await asyncio.wait_for(backend.opened[0].closed.wait(), 60)
    assert (backend.opened[0].end, generator.num_active) == (EndReason.CANCELLED, 0)


async def test_leaving_the_service_closes_every_session(
    generator: Generator, backend: ScriptedBackend, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with keeping(settings) as service:
        for turn in range(3):
            service.start(await generator.start(ask()), Texts(), protocol="grpc", principal="")
            if turn == 1:
                await asyncio.sleep(0)  # some have begun, one has not
    assert [session.end for session in backend.opened] == [EndReason.CANCELLED] * 3
    assert generator.num_active == 0


async def test_a_gateway_that_ends_sends_other_gateways_all_that_it_has_and_why_there_is_no_more(
    generator: Generator, backend: ScriptedBackend, settings: GatewaySettings
) -> None:
    bus, pause = MemoryBus(), asyncio.Event()
    backend.default = [*((5,) for _ in range(30)), pause]
    got = bytearray()
    async with keeping(settings, "g1", bus) as other:
        async with keeping(settings, "g0", bus) as owner:
            first = owner.start(
                await generator.start(ask()), Texts(repeat=20_000), protocol="grpc", principal=""
            )
            reader = await other.resume(first.token, 0, protocol="grpc", principal="")

            async def read() -> None:
                async with reader:
                    async for frame in reader:
                        got.extend(frame.content)

            await asyncio.sleep(0.1)  # far less was asked for than there is
            reading = asyncio.create_task(read())
        with pytest.raises(RequestError) as caught:
            await reading
    assert caught.value.code == "server_shutting_down"
    assert len(got) == 30 * 20_000 * len(generator._text.detokenizer().step(TokenId(5)))


async def test_a_gateway_that_ends_waits_for_who_reads_and_for_nobody_else(
    generator: Generator, settings: GatewaySettings
) -> None:
    bus = MemoryBus()
    async with keeping(settings, "g1", bus) as other, keeping(settings, "g0", bus) as service:
        near, far, _ = [
            service.start(await generator.start(ask()), Texts(repeat=20_000), protocol="grpc", principal="")
            for _ in range(3)
        ]
        far = await other.resume(far.token, 0, protocol="grpc", principal="")
        async with near:
            waiting = asyncio.create_task(service.delivered(timeout_s=3600))
            assert [frame async for frame in far][-1].content == b"|"
            await asyncio.sleep(0.1)
            assert not waiting.done()
            assert [frame async for frame in near][-1].content == b"|"
        await asyncio.wait_for(waiting, 60)
        assert service.num_streams == 3


async def test_who_still_reads_when_the_gateway_ends_is_told_so_and_nobody_begins(
    generator: Generator, settings: GatewaySettings
) -> None:
    async with keeping(settings) as service:
        reader = service.start(await generator.start(ask()), Texts(), protocol="grpc", principal="")
        async with reader:
            await anext(reader)
            await service.delivered(timeout_s=0.05)
            service.leave()
            for late in (anext(reader), service.resume(reader.token, 0, protocol="grpc", principal="")):
                with pytest.raises(RequestError) as caught:
                    await late
                assert caught.value.code == "server_shutting_down"


async def test_streams_that_nobody_reads_make_room_and_their_sessions_are_closed(
    generator: Generator, backend: ScriptedBackend, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    small = settings.model_copy(update={"resume_total_kib": 64})
    async with keeping(small) as service:
        for _ in range(70):
            service.start(await generator.start(ask()), Texts(), protocol="grpc", principal="")
            await asyncio.sleep(0)
        assert service.num_bytes <= 64 * 1024
        await asyncio.wait_for(backend.opened[0].closed.wait(), 60)
        assert backend.opened[-1].end is None


async def test_a_bug_of_ours_is_logged_and_told_as_such(
    generator: Generator, backend: ScriptedBackend, settings: GatewaySettings
) -> None:
    with capture_logs() as logs:
        async with (
            keeping(settings) as service,
            service.start(await generator.start(ask()), Texts("w"), protocol="grpc", principal="") as reader,
        ):
            with pytest.raises(RequestError) as caught:
                _ = [frame async for frame in reader]
    assert caught.value.code == "internal_error"
    assert [entry["event"] for entry in logs] == ["resumable_stream_failed"]
    assert backend.opened[0].end is not None


async def test_no_more_streams_of_other_gateways_are_read_than_may_be(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipespec.gateway.resume.service.MAX_REMOTE", 1)
    async with keeping(settings, "g0", MemoryBus()) as service:
        waiting = asyncio.create_task(
            service.resume(StreamToken("g1", STREAM), 0, protocol="grpc", principal="")
        )
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await service.resume(StreamToken("g1", STREAM), 0, protocol="grpc", principal="")
        with pytest.raises(RequestError, match="does not answer"):
            await waiting
        assert service.num_readers == 0


async def test_a_gateway_that_nobody_has_heard_of_is_neither_asked_nor_waited_for(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipespec.gateway.resume.service.MAX_REMOTE", 0)
    bus = MemoryBus()
    bus.unheard.add(gateway_inbox("nobody"))
    async with keeping(settings, "g0", bus) as service:
        token = StreamToken("nobody", STREAM)
        for attempt in (
            service.resume(token, 0, protocol="grpc", principal=""),
            service.cancel(token, protocol="grpc", principal=""),
        ):
            with pytest.raises(RequestError, match="is not there") as caught:
                await attempt
            assert caught.value.code == "resume_expired"
        assert bus.carried == []


async def test_its_metrics_count_what_it_keeps_and_how_resuming_began(
    generator: Generator, settings: GatewaySettings
) -> None:
    async with keeping(settings) as service:
        reader = service.start(await generator.start(ask()), Texts(), protocol="grpc", principal="")
        await service.resume(reader.token, 0, protocol="grpc", principal="")
        with pytest.raises(RequestError):
            await service.resume(StreamToken("g0", STREAM), 0, protocol="grpc", principal="")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in ResumeMetrics(service).collect()
            for sample in family.samples
        }
    assert samples["pipespec_gateway_resumable_streams",] == 1
    assert samples["pipespec_gateway_resumable_bytes",] >= 1024
    assert samples["pipespec_gateway_resumes_total", "ok"] == 1
    assert samples["pipespec_gateway_resumes_total", "resume_expired"] == 1


def test_a_name_is_read_as_it_was_written() -> None:
    token = StreamToken("gateway-0", STREAM)
    assert parse_resume_id(str(token), param="x") == (token, 0)
    assert parse_resume_id(token.event(0), param="x") == (token, 1)
    assert parse_resume_id(token.event(41), param="x") == (token, 42)


NO_NAMES = [
    *("", "g0", f"G0.{0:032x}", f"-g.{0:032x}", f"a.b.{0:032x}", f" g0.{0:032x}"),
    *(f"g0.{0:031x}", f"g0.{0:032x}.", f"g0.{0:032x}.01", f"g0.{0:032x}.-1", f"g0.{0:032x}.9999999999"),
    f"g0.{0:032x}\n",
]


@pytest.mark.parametrize("bad", NO_NAMES)
def test_what_is_no_name_is_refused(bad: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_resume_id(bad, param="resume_id")
    assert (caught.value.code, caught.value.param) == ("invalid_value", "resume_id")


def test_where_resuming_is_off_that_is_the_reason() -> None:
    with pytest.raises(RequestError, match="resume_grace_s is 0"):
        resuming(None)
