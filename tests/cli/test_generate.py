"""``pipespec generate`` and ``chat`` against a real gateway with a scripted pipeline."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from gateway.scripted_backend import ScriptedBackend
from pipespec.cli.main import ASKED_WRONGLY, run
from pipespec.gateway.text import ChatMessage, TextModel

SAID = "Hello 👍🏽 world!"


async def cli(*arguments: str) -> int:
    return await asyncio.to_thread(run, arguments)


def chat_ids(text: TextModel, *said: tuple[str, str]) -> tuple[int, ...]:
    return tuple(text.render_chat([ChatMessage(role, content) for role, content in said]))


async def test_it_streams_the_answer_and_ends_the_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await cli("generate", "hello", "--url", url) == 0
    assert capsys.readouterr().out == f"{SAID}\n"


async def test_the_chat_template_is_applied(url: str, backend: ScriptedBackend, text: TextModel) -> None:
    await cli("generate", "hello", "--url", url)
    assert backend.opened[0].prompt == chat_ids(text, ("user", "hello"))


async def test_raw_leaves_the_prompt_as_it_is(url: str, backend: ScriptedBackend, text: TextModel) -> None:
    await cli("generate", "hello", "--raw", "--url", url)
    assert backend.opened[0].prompt == tuple(text.encode("hello"))


async def test_it_is_greedy_and_speculates_unless_told_otherwise(url: str, backend: ScriptedBackend) -> None:
    await cli("generate", "hello", "--url", url)
    assert backend.opened[0].sampling.temperature == 0.0
    assert backend.opened[0].speculate


async def test_options_reach_the_pipeline(url: str, backend: ScriptedBackend) -> None:
    options = "--max-tokens 9 --temperature 0.5 --top-p 0.9 --top-k 7 --min-p 0.1 --seed 3 --no-speculation"
    await cli("generate", "hello", "--url", url, *options.split())
    (stream,) = backend.opened
    sampling = stream.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.seed) == (9, 0.5, 3)
    assert (sampling.top_p, sampling.top_k, sampling.min_p) == (0.9, 7, 0.1)
    assert not stream.speculate


async def test_zero_is_a_value_and_not_an_absence(url: str, backend: ScriptedBackend) -> None:
    await cli("generate", "hello", "--url", url, "--seed", "0", "--temperature", "1")
    assert backend.opened[0].sampling.seed == 0


async def test_a_stop_text_ends_the_answer(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    await cli("generate", "hello", "--url", url, "--stop", " world")
    assert capsys.readouterr().out == "Hello 👍🏽\n"


async def test_json_is_one_object(url: str, text: TextModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert await cli("generate", "hello", "--json", "--raw", "--url", url) == 0
    document = json.loads(capsys.readouterr().out)
    ids = [*text.encode(SAID), 2]
    prompt_len = len(text.encode("hello"))
    assert document["text"] == SAID
    assert document["token_ids"] == ids
    assert document["finish_reason"] == "stop"
    assert document["usage"] == {
        "prompt_tokens": prompt_len,
        "completion_tokens": len(ids),
        "total_tokens": prompt_len + len(ids),
    }
    assert document["stats"]["tokens_per_target_step"] == 2.5
    assert [stage["name"] for stage in document["stats"]["stages"]] == ["0:suffix", "1:target"]


async def test_a_dash_reads_the_prompt_from_stdin(
    url: str, backend: ScriptedBackend, text: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nworld\n"))
    await cli("generate", "-", "--raw", "--url", url)
    assert backend.opened[0].prompt == tuple(text.encode("hello\nworld"))


async def test_a_value_that_the_gateway_refuses_is_one_line_and_code_2(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await cli("generate", "hello", "--url", url, "--top-p", "7") == ASKED_WRONGLY
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "top_p" in error


async def test_chat_remembers_and_forgets(
    url: str, backend: ScriptedBackend, text: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nuser\n\n/reset\nworld\n"))
    assert await cli("chat", "--url", url, "--system", "lazy") == 0
    system = ("system", "lazy")
    assert [stream.prompt for stream in backend.opened] == [
        chat_ids(text, system, ("user", "hello")),
        chat_ids(text, system, ("user", "hello"), ("assistant", SAID), ("user", "user")),
        chat_ids(text, system, ("user", "world")),
    ]


async def test_chat_forgets_a_question_that_failed(
    url: str,
    backend: ScriptedBackend,
    text: TextModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{'hello ' * 300}\nworld\n"))
    assert await cli("chat", "--url", url) == 0
    assert [stream.prompt for stream in backend.opened] == [chat_ids(text, ("user", "world"))]
    assert "/reset" in capsys.readouterr().err
