#!/bin/sh
# Builder: PipeSpec itself in /opt/pipespec/app, where the virtual environment finds it.
set -eu

/opt/build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /opt/build/wheels .
/opt/build/bin/python -m pip --python /opt/pipespec/venv/bin/python install \
    --no-cache-dir --no-compile --no-deps --no-index --target /opt/pipespec/app /opt/build/wheels/pipespec-*.whl
/opt/pipespec/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/pipespec/app
