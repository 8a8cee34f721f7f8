"""One target under libFuzzer: ``python -m fuzz.driver TARGET [libFuzzer's options]``; started by ``python -m fuzz``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pipespec"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
