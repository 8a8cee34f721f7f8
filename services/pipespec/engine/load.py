"""From a stage's settings to an engine that is ready to step.

The engine comes with its identity: what heartbeats say about it, so that only equal replicas serve one session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipespec.emulation.chain import curve_of, emulation_of, language_of
from pipespec.emulation.vocabulary import VOCAB_SIZE, byte_tokenizer
from pipespec.engine.emulated import Device, EmulatedEngine, EmulatedLimits
from pipespec.engine.suffix import SuffixEngine
from pipespec.models.fetch import resolve
from pipespec.models.identity import IDENTITY_LEN, tokenizer_digest, vocabulary_digest, weights_digest
from pipespec.ops.errors import ModelError
from pipespec.ops.pipeline import StageKind, StageSettings
from pipespec.protocol.work import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipespec.engine.parallel.group import RankGroup


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """An engine with what its heartbeats say about it.

    Attributes:
        engine: ready to step.
        model: what it runs, for people.
        weights: 16-byte digest of weights, config and dtype, or of an emulated stage's language; empty for a draft
            without a model.
        tokenizer: 16-byte digest of the vocabulary; empty where any will do.
    """

    engine: Engine
    model: str
    weights: bytes
    tokenizer: bytes


def load_engine(
    settings: StageSettings,
    *,
    later: Sequence[StageSettings] = (),
    ranks: RankGroup | None = None,
) -> LoadedEngine:
    """Load what a stage runs.

    Args:
        settings: of the stage; its model must be on this machine already (``models.fetch.fetch``).
        later: the stages after it; what an emulated stage says depends on what they say.
        ranks: over which the model is split; each of them calls this.

    Raises:
        ModelError: the model is not there, damaged, or cannot be rolled back; or a package is not installed.
    """
    if settings.kind is StageKind.SUFFIX:
        engine = SuffixEngine(min_match=settings.min_match)
        return LoadedEngine(engine, model="suffix", weights=b"", tokenizer=b"")
    if settings.kind is StageKind.EMULATED:
        return _emulated(settings, later)
    try:
        return _load_transformers(settings, ranks=ranks)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"running {settings.model!r} needs {error.name}: pip install 'pipespec[stage]'"
        ) from error


def _emulated(settings: StageSettings, later: Sequence[StageSettings]) -> LoadedEngine:
    emulation, language = emulation_of(settings), language_of((settings, *later))
    limits = EmulatedLimits(
        max_batch=settings.max_batch,
        max_chunk=min(settings.prefill_chunk, settings.step_tokens),
        max_step_tokens=settings.step_tokens,
        vocab_size=VOCAB_SIZE,
        context_len=emulation.context_len,
    )
    device = Device(curve_of(settings), jitter=emulation.jitter, seed=language.seed)
    return LoadedEngine(
        engine=EmulatedEngine(language, device=device, limits=limits),
        model="emulated",
        weights=hashlib.blake2b(f"pipespec {language}".encode(), digest_size=IDENTITY_LEN).digest(),
        tokenizer=vocabulary_digest(byte_tokenizer()),
    )


def _load_transformers(settings: StageSettings, *, ranks: RankGroup | None) -> LoadedEngine:
    # Imported here, so that a suffix stage starts without torch: in a fraction of the time and memory.
    from pipespec.engine import assembly, checkpoint  # noqa: PLC0415

    folder = resolve(settings.model or "", settings.revision)
    checkpoint.set_threads(settings.threads)

    def load() -> PreTrainedModel:
        return checkpoint.load_model(folder, device=settings.device, dtype=settings.dtype, ranks=ranks)

    agree = int if ranks is None else ranks.minimum
    engine = assembly.assemble_engine(load, settings, agree=agree)
    # Ranks add up in another order, which rounds differently: like another dtype, it is another identity.
    rounding = engine.dtype if ranks is None else f"{engine.dtype}, {ranks.size} ranks"
    return LoadedEngine(
        engine=engine,
        model=settings.model or "",
        weights=weights_digest(folder, dtype=rounding),
        tokenizer=tokenizer_digest(folder),
    )
