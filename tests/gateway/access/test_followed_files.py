"""Files that change are read again; what cannot be used changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipespec.gateway.access import FollowedFiles
from pipespec.ops.errors import SettingsError

TIMEOUT_S = 60


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not is_so():
            await asyncio.sleep(0.005)


class Followed:
    """The contents of a file as they were loaded; "bad" cannot be used."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.loaded: list[str] = []
        self.num_tried = 0

    def load(self) -> None:
        self.num_tried += 1
        text = self.file.read_text()
        if text == "bad":
            raise SettingsError("it is bad")
        if text == "unforeseen":
            raise KeyError("a secret")
        self.loaded.append(text)


async def test_a_change_is_loaded_once_also_when_a_link_is_switched(tmp_path: Path) -> None:
    # As Kubernetes mounts a Secret: the name is a link through a folder that is another link.
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(name)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "keys").symlink_to("data/keys")
    followed = Followed(tmp_path / "keys")
    files = FollowedFiles("test", [followed.file], load=followed.load)
    following = asyncio.create_task(files.follow(every_s=0.01))
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "data")
    await until(lambda: followed.loaded == ["one", "two"])
    (tmp_path / "two" / "keys").write_text("three")
    await until(lambda: followed.loaded == ["one", "two", "three"])
    following.cancel()
    await asyncio.wait({following})
    assert followed.num_tried == 3


@pytest.mark.parametrize(("text", "said"), [("bad", "it is bad"), ("unforeseen", "KeyError")])
async def test_what_cannot_be_used_is_told_and_what_follows_counts(
    tmp_path: Path, text: str, said: str
) -> None:
    followed = Followed(tmp_path / "keys")
    followed.file.write_text("good")
    files = FollowedFiles("test", [followed.file], load=followed.load)
    with capture_logs() as logs:
        following = asyncio.create_task(files.follow(every_s=0.01))
        followed.file.write_text(text)
        await until(lambda: any(log["event"] == "gateway.reload_failed" for log in logs))
        followed.file.write_text("better")
        await until(lambda: followed.loaded == ["good", "better"])
        following.cancel()
        await asyncio.wait({following})
    told = [log["error"] for log in logs if log["event"] == "gateway.reload_failed"]
    assert told == [said], "once for each change, and nothing of what the file holds"


def test_a_file_that_cannot_be_used_to_begin_with_is_an_error(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "keys")
    followed.file.write_text("bad")
    with pytest.raises(SettingsError):
        FollowedFiles("test", [followed.file], load=followed.load)
