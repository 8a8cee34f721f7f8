"""Opens a matplotlib figure for a command and saves it: the same figures give the same file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipespec.cli.outputs import check_can_write
from pipespec.ops.errors import SettingsError

if TYPE_CHECKING:  # the extra 'bench'
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png", ".pdf")


def check_can_draw(file: Path) -> None:
    """Before hours are spent on what is to be drawn.

    Raises:
        SettingsError: matplotlib is missing, the suffix names no format, or the file cannot be written.
    """
    check_can_write("--plot", file)
    if file.suffix not in FORMATS:
        raise SettingsError(f"--plot {file}: expected a name that ends with {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise SettingsError("--plot needs matplotlib: pip install 'pipespec[bench]'")


@contextmanager
def picture(file: Path, *, inches: tuple[float, float]) -> Iterator[Figure]:
    """Yield a figure to draw on; it is written to ``file`` at the end.

    Raises:
        SettingsError: as ``check_can_draw``.
    """
    check_can_draw(file)
    import matplotlib as mpl  # noqa: PLC0415 - optional, and slow
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "pipespec", "svg.fonttype": "none"}):
        figure = Figure(figsize=inches, layout="constrained")
        yield figure
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
