"""One target under libFuzzer: ``python -m fuzz.driver TARGET [libFuzzer's options]``; started by ``python -m fuzz``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pipespec"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    _, name, *options = sys.argv
    # The first argument is what libFuzzer starts again, by way of a shell, to merge inputs.
    atheris.Setup([f"{sys.executable} -m fuzz.driver {name}", *options], TARGETS[name])
    atheris.Fuzz()
