"""Resuming over HTTP through another gateway, over a bus that loses, doubles and reorders; owners that die or end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.openai.asking import ASK, error_of
from gateway.openai.listening import RESUMABLE, SAID, eventually, gateway, hear, resumed, started
from gateway.resume.fellows import MemoryBus
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason


@pytest.mark.parametrize("loss", [0.0, 0.3])
async def test_another_gateway_goes_on_with_the_stream_whatever_the_bus_loses(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, loss: float
) -> None:
    bus = MemoryBus(seed=1, loss=loss, doubled=loss, delay_s=loss / 10)
    async with (
        gateway(backend, text, settings, "g0", bus) as (owner, owning),
        gateway(backend, text, settings, "g1", bus) as (other, asking),
    ):
        pause, ids = asyncio.Event(), [*text.encode(SAID), 2]
        for cut in range(1, len(ids) - 2, 3):
            pause.clear()
            backend.scripts.append(
                [*((token,) for token in ids[:-2]), pause, *((token,) for token in ids[-2:])]
            )
            async with started(owner, {**ASK, **RESUMABLE}) as response:
                first = await hear(response, events=cut)
            async with resumed(other, first.stream, first.ids[-1]) as response:
                waiting = asyncio.create_task(hear(response))
                pause.set()
                rest = await waiting
            assert (first.text + rest.text, rest.is_done) == (SAID, True)
            assert first.token_ids + rest.token_ids == ids
            assert first.sequence + rest.sequence == list(range(len(first.ids + rest.ids)))
        assert asking.num_streams == 0
        assert owning.num_readers == asking.num_readers == 0
    assert (bus.num_lost > 0) == (loss > 0)


async def test_a_dead_owner_and_an_unknown_one_are_explicit(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    bus = MemoryBus()
    backend.default = [(5,), asyncio.Event()]
    async with (
        gateway(backend, text, settings, "g0", bus) as (owner, _),
        gateway(backend, text, settings, "g1", bus) as (other, _),
    ):
        async with started(owner, {**ASK, **RESUMABLE}) as response:
            first = await hear(response, events=1)
        async with resumed(other, first.stream) as response:
            reading = asyncio.create_task(hear(response))
            await eventually(lambda: not reading.done() and len(bus.carried) > 3)
            bus.kill("g0")
            cut = await reading
        assert cut.error is not None
        assert (cut.token_ids, cut.error["code"], cut.is_done) == ([5], "resume_expired", False)
        for stream in (first.stream, f"g7.{0:032x}"):
            response = await other.get(f"/v1/streams/{stream}")
            assert (response.status_code, error_of(response)["code"]) == (410, "resume_expired")


async def test_a_gateway_that_ends_sends_the_readers_of_other_gateways_streams_on(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    bus, pause = MemoryBus(), asyncio.Event()
    backend.default = [(5,), pause, (2,)]
    async with (
        gateway(backend, text, settings, "g0", bus) as (owner, _),
        gateway(backend, text, settings, "g1", bus) as (other, relaying),
    ):
        async with started(owner, {**ASK, **RESUMABLE}) as response:
            first = await hear(response, events=1)
        async with resumed(other, first.stream, first.ids[-1]) as response:
            relaying.leave()
            told = await hear(response)
        assert told.error is not None
        assert (told.error["code"], told.is_done) == ("relay_shutting_down", False)
        refused = await other.get(f"/v1/streams/{first.stream}")
        assert (refused.status_code, error_of(refused)["code"]) == (503, "relay_shutting_down")
        pause.set()
        async with resumed(owner, first.stream, first.ids[-1]) as response:
            rest = await hear(response)
        assert (rest.token_ids, rest.is_done) == ([2], True)


async def test_a_stream_is_cancelled_and_taken_over_through_another_gateway(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    bus = MemoryBus()
    backend.default = [(5,), asyncio.Event()]
    async with (
        gateway(backend, text, settings, "g0", bus) as (owner, _),
        gateway(backend, text, settings, "g1", bus) as (other, _),
    ):
        async with started(owner, {**ASK, **RESUMABLE}) as response:
            older = asyncio.create_task(hear(response))
            stream = response.headers["x-pipespec-stream"]
            async with resumed(other, stream) as second:
                told = await asyncio.wait_for(older, 60)
                newer = asyncio.create_task(hear(second))
                assert (await other.delete(f"/v1/streams/{stream}")).status_code == 204
                ended = await asyncio.wait_for(newer, 60)
        assert told.error is not None
        assert ended.error is not None
        assert (told.error["code"], ended.error["code"]) == ("resumed_elsewhere", "cancelled")
        assert backend.opened[0].end is EndReason.CANCELLED
