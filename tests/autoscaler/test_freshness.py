"""Silence is not idleness: what has to be heard before anything is decided."""

from __future__ import annotations

import pytest

from autoscaler.beats import NUM_STAGES, Speakers, gateway_beat, stage_beat
from pipespec.autoscaler.freshness import Freshness
from pipespec.protocol.ids import Rank
from pipespec.protocol.telemetry import Telemetry


class Ears:
    """A fleet that is listened to, a heartbeat every 0.1 s."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.telemetry = Telemetry(dead_s=1.0)
        self.freshness = Freshness(num_stages=NUM_STAGES, heartbeat_s=0.1)
        self.is_joined = True
        self.replicas = {Rank(0): 1, Rank(1): 1}
        self._speakers = Speakers()

    def hear(self, *who: str, seconds: float = 1.0) -> str:
        """What is lacking after these have spoken for so long."""
        beats = {"draft": stage_beat(0, "r0"), "target": stage_beat(1, "r0"), "gateway": gateway_beat()}
        lack = self.lack()
        for _ in range(round(seconds / 0.1)):
            self.now_s += 0.1
            for name in who:
                self.telemetry.on_envelope(self.now_s, self._speakers.say(beats[name]))
            lack = self.lack()
        return lack

    def lack(self) -> str:
        now = self.now_s
        return self.freshness.lack(
            now,
            is_joined=self.is_joined,
            stages=self.telemetry.stages(now),
            gateways=self.telemetry.gateways(now),
            replicas=self.replicas,
        )


@pytest.fixture
def ears() -> Ears:
    return Ears()


def test_at_first_everything_is_missing(ears: Ears) -> None:
    assert ears.lack() == "no heartbeats of stage 0, 1; no heartbeats of a gateway"


def test_a_fleet_that_beats_is_enough(ears: Ears) -> None:
    assert ears.hear("draft", "target", "gateway") == ""


def test_one_heartbeat_is_not_enough(ears: Ears) -> None:
    assert ears.hear("draft", "target", "gateway", seconds=0.2) != ""


@pytest.mark.parametrize("silent", ["draft", "target", "gateway"])
def test_whoever_falls_silent_is_missed_and_the_time_begins_anew(ears: Ears, silent: str) -> None:
    everyone = ("draft", "target", "gateway")
    ears.hear(*everyone, seconds=5)
    assert ears.freshness.lasts_s(ears.now_s) > 4
    assert ears.hear(*(set(everyone) - {silent}), seconds=2) != ""
    assert ears.freshness.lasts_s(ears.now_s) == 0
    assert ears.hear(*everyone) == ""
    assert 0 < ears.freshness.lasts_s(ears.now_s) < 1


def test_without_the_bus_nothing_is_known(ears: Ears) -> None:
    ears.hear("draft", "target", "gateway")
    ears.is_joined = False
    assert ears.lack() == "the bus does not echo"


def test_a_stage_that_is_switched_off_need_not_speak_nor_while_it_comes_back(ears: Ears) -> None:
    ears.replicas[Rank(0)] = 0
    assert ears.hear("target", "gateway") == ""
    ears.replicas[Rank(0)] = 1
    assert ears.hear("target", "gateway") == ""


def test_once_it_is_back_its_silence_counts_again(ears: Ears) -> None:
    ears.replicas[Rank(0)] = 0
    ears.hear("target", "gateway")
    ears.replicas[Rank(0)] = 1
    ears.hear("draft", "target", "gateway")
    assert ears.hear("target", "gateway", seconds=2) == "no heartbeats of stage 0"
