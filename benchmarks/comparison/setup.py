"""What every contender gets alike: the weights, the device, the number type, the threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Set before any library reads them: in the parent, which all workers inherit from."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings of a comparison that no contender may choose.

    Attributes:
        folder: the model's.
        assistant: folder of a smaller model for assisted generation; None where there is none.
        device: as in ``StageSettings``.
        dtype: of the weights, as in ``StageSettings``.
        threads: compute threads.
    """

    folder: Path
    assistant: Path | None
    device: str
    dtype: str
    threads: int
