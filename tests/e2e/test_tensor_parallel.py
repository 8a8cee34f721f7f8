"""A target split over two processes, as a user runs it: same tokens, killed with a part of it, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from e2e.detached import detached
from e2e.test_processes import PROMPTS, Running
from engine.tiny import save_tiny_model
from pipespec.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """draft -> target on two ranks."""
    root = tmp_path_factory.mktemp("split")
    target = save_tiny_model(root / "target", seed=1)
    draft = save_tiny_model(root / "draft", seed=3, agree_with=target, noise=0.05)
    document = {
        "name": "split",
        "stages": [
            {"model": str(draft), "device": "cpu"},
            {"model": str(target), "device": "cpu", "tensor_parallel": 2, "wait_for": 2},
        ],
        "gateway": {"http_port": 0, "grpc_port": 0, "zmq_port": 0, "model_name": "tiny"},
    }
    with detached(document, root) as up:
        yield Running(up.pipeline, up.folder, target)


def target_ranks(running: Running) -> list[psutil.Process]:
    """The leader, then its follower."""
    found = [p for p in running.processes() if "--rank 1 " in " ".join(p.info["cmdline"])]
    return sorted(found, key=lambda process: "RANK" in process.environ())


def test_a_split_target_says_what_the_whole_one_says(running: Running) -> None:
    with Client(running.url("grpc")) as client:
        for prompt in PROMPTS[:4]:
            completion = client.generate(prompt, max_tokens=30, temperature=0, include_stats=True)
            assert list(completion.token_ids) == running.expected(prompt, 30)
    assert completion.stats[1].checked > 0


def test_a_seed_gives_one_text_with_and_without_drafts(running: Running) -> None:
    with Client(running.url("grpc")) as client:
        asked = {"max_tokens": 30, "temperature": 0.8, "seed": 11, "ignore_eos": True}
        together = client.generate(PROMPTS[1], **asked)
        alone = client.generate(PROMPTS[1], **asked, speculate=False)
    assert together.token_ids == alone.token_ids


def test_a_killed_follower_ends_the_stage_which_comes_back_whole(running: Running) -> None:
    before = target_ranks(running)
    with Client(running.url("grpc")) as client:
        stream = client.stream(PROMPTS[3], max_tokens=120, temperature=0, ignore_eos=True)
        ids = list(next(stream).token_ids)
        before[1].kill()
        for chunk in stream:
            ids += chunk.token_ids
        alone = client.generate(
            PROMPTS[3], max_tokens=120, temperature=0, ignore_eos=True, speculate=False, timeout_s=60
        )
    assert ids == list(alone.token_ids)
    after = target_ranks(running)
    assert len(after) == 2
    assert not {process.pid for process in before} & {process.pid for process in after}


def test_a_follower_does_not_outlive_its_leader(running: Running) -> None:
    leader, follower = target_ranks(running)
    leader.kill()
    _, alive = psutil.wait_procs([follower], timeout=30)
    assert alive == []
