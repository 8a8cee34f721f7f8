"""The cache folder: where it is, and that what is in it is whole."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipespec.models.cache import build_once, cache_root, converted_root
from pipespec.ops.errors import ModelError


def test_the_environment_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("PIPESPEC_CACHE", raising=False)
    assert cache_root() == Path.home() / ".cache" / "pipespec"
    monkeypatch.setenv("PIPESPEC_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    assert converted_root().is_relative_to(tmp_path)


def test_a_finished_build_becomes_the_folder_and_is_not_built_again(tmp_path):
    folder = tmp_path / "deep" / "model"
    with build_once(folder) as scratch:
        assert scratch is not None
        (scratch / "weights").write_text("whole")
        assert not folder.exists()
    assert (folder / "weights").read_text() == "whole"
    with build_once(folder) as scratch:
        assert scratch is None


def test_a_failed_build_leaves_nothing_and_may_be_repeated(tmp_path):
    folder = tmp_path / "model"

    def fail() -> None:
        with build_once(folder) as scratch:
            assert scratch is not None
            (scratch / "weights").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    with build_once(folder) as scratch:
        assert scratch is not None
        assert list(scratch.iterdir()) == []


def test_what_a_killed_build_left_is_removed(tmp_path):
    leftover = tmp_path / ".model.partial-killed"
    leftover.mkdir()
    (leftover / "weights").write_text("half")
    with build_once(tmp_path / "model"):
        assert not leftover.exists()


def test_only_one_of_many_builds(tmp_path):
    folder = tmp_path / "model"
    built: list[str] = []
    start = threading.Barrier(4)

    def build() -> None:
        start.wait(timeout=10)
        with build_once(folder) as scratch:
            if scratch is not None:
                built.append(scratch.name)

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(built) == 1
    assert folder.is_dir()


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="PIPESPEC_CACHE"), build_once(tmp_path / "file" / "model"):
        pass
