"""Coverage-guided fuzzing with atheris: ``make fuzz``. Needs no network; stops at the first input that makes a target fail.

Begins with the kept corpus, in a folder of its own. ``--keep`` puts the smallest set of inputs with the same coverage
back into the tree.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "fuzz"


def main() -> int:
    """One target in this process, or all of them one after the other in others."""
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("target", nargs="?", help="default: all")
    parser.add_argument("--seconds", type=int, default=180, help="in all")
    parser.add_argument("--keep", action="store_true", help="put what was found into tests/fuzz/corpus")
    options = parser.parse_args()
    from fuzz.targets import TARGETS  # noqa: PLC0415 - not before atheris, in the process that fuzzes

    names = [options.target] if options.target else list(TARGETS)
    worst = 0
    for name in names:
        folder = BUILD / name
        worst = max(worst, _fuzz(name, folder, seconds=max(1, options.seconds // len(names))))
        if options.keep:
            _keep(name, folder)
    return worst


def _run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "fuzz.driver", *arguments], check=False).returncode


def _fuzz(name: str, folder: Path, *, seconds: int) -> int:
    from fuzz import corpus  # noqa: PLC0415 - as above

    corpus.unpack(name, folder)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]
    return _run(name, str(folder), *limits, f"-artifact_prefix={BUILD}/{name}-")


def _keep(name: str, folder: Path) -> None:
    from fuzz import corpus  # noqa: PLC0415 - as above

    small = BUILD / f"{name}-small"
    small.mkdir(exist_ok=True)
    merged = _run(name, "-merge=1", f"-max_len={corpus.MAX_INPUT}", str(small), str(folder))
    inputs = [file.read_bytes() for file in small.iterdir()]
    if merged == 0 and inputs:
        corpus.write(name, inputs)


if __name__ == "__main__":
    sys.exit(main())
