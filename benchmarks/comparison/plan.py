"""What a comparison asks of whom, checked against what the model can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pipespec.gateway.text import TextModel
from pipespec.models.folder import read_json
from pipespec.ops.errors import SettingsError

from .contender import Contender
from .memory import Churn
from .prompt import Kind, Prompt, load_prompts
from .workload import Workload

CHECK_PROMPTS = 4
CHECK_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of whom.

    Attributes:
        contenders: the reference among them.
        prompts: of each kind, as many as the largest number of sessions.
        sessions: numbers of sessions to measure.
        max_tokens: to generate per session.
        stop_ids: of the model.
        check_prompts: of each kind, for the check before the timing; 0 leaves it to what is timed.
        check_tokens: to generate for it.
        rounds: of every cell; the run of median speed counts.
        churn: for the memory row.
    """

    contenders: tuple[Contender, ...]
    prompts: Mapping[Kind, tuple[Prompt, ...]]
    sessions: tuple[int, ...]
    max_tokens: int
    stop_ids: tuple[int, ...]
    check_prompts: int
    check_tokens: int
    rounds: int
    churn: Churn

    def workload(self, prompts: Sequence[Prompt], *, max_tokens: int) -> Workload:
        """These prompts at once."""
        return Workload(tuple(prompt.ids for prompt in prompts), max_tokens, self.stop_ids)

    @property
    def num_jobs(self) -> int:
        """Processes that a complete course starts, but for the one that looks at differences."""
        measured = sum(one.serves(n) for one, n in product(self.contenders, self.sessions))
        checks = len(self.contenders) - 1 if self.check_prompts else 0
        return 1 + checks + measured * len(self.prompts) * self.rounds + 1


def make_plan(
    folder: Path,
    *,
    contenders: tuple[Contender, ...],
    kinds: Sequence[Kind] = tuple(Kind),
    sessions: tuple[int, ...],
    max_tokens: int,
    rounds: int,
    checks_first: bool = True,
    churn: Churn | None = None,
) -> Plan:
    """A plan for the model in ``folder``.

    Raises:
        SettingsError: there are too few prompts, or one does not fit the model.
        ModelError: the folder has no usable tokenizer.
    """
    text = TextModel.load(folder)
    prompts = {kind: load_prompts(kind, text, number=max(sessions)) for kind in kinds}
    _check_fit(folder, prompts, max_tokens=max_tokens)
    return Plan(
        contenders=contenders,
        prompts=prompts,
        sessions=sessions,
        max_tokens=max_tokens,
        stop_ids=text.stop_ids,
        check_prompts=CHECK_PROMPTS if checks_first else 0,
        check_tokens=min(CHECK_TOKENS, max_tokens),
        rounds=rounds,
        churn=churn or Churn(),
    )


def _check_fit(folder: Path, prompts: Mapping[Kind, Sequence[Prompt]], *, max_tokens: int) -> None:
    room = read_json(folder / "config.json").get("max_position_embeddings")
    if not isinstance(room, int):
        return
    for prompt in (one for of_kind in prompts.values() for one in of_kind):
        if len(prompt.ids) + max_tokens > room:
            raise SettingsError(
                f"prompt {prompt.name} has {len(prompt.ids)} tokens; with {max_tokens} generated ones it does not fit "
                f"the model's context of {room}: ask for fewer tokens, or take a model with a longer context"
            )
