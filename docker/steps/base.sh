#!/bin/sh
# Image: Python without pip, and the user that everything runs as.
set -eu

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
    apt-get update
    apt-get install --yes --no-install-recommends ca-certificates python3
    apt-get clean
    rm -rf /var/lib/apt/lists/*
fi

# What installs packages is of use to nobody here but an intruder. A distribution's own pip is the distribution's matter.
if [ -x /usr/local/bin/pip ]; then
    python3 -m pip uninstall --yes --root-user-action=ignore wheel setuptools pip
    rm -rf "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/ensurepip"
fi

groupadd --gid 10001 pipespec
useradd --uid 10001 --gid 10001 --create-home --home-dir /home/pipespec --shell /usr/sbin/nologin pipespec
