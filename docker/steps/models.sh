#!/bin/sh
# Builder: the model that is baked into the image, in /opt/pipespec/models.
#     models.sh REFERENCE        empty: an empty folder
set -eu

mkdir -p /opt/pipespec/models
[ -n "$1" ] || exit 0
# An embedded model comes by pip, which no image has.
/opt/build/bin/python -m pip --python /opt/pipespec/venv/bin/python install --no-cache-dir --constraint constraints.txt pip
PIPESPEC_CACHE=/opt/pipespec/models HF_HOME=/opt/pipespec/models/huggingface \
    /opt/pipespec/app/bin/pipespec models fetch "$1"
find /opt/pipespec/models -name '*.lock' -delete
