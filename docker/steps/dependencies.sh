#!/bin/sh
# Builder: a virtual environment in /opt/pipespec/venv with what the named extras need, and dumb-init.
# pip itself stays outside of it, in /opt/build, with what builds the wheel.
#     dependencies.sh EXTRA...        TORCH, TORCH_FLAGS: installed before all else, where set
set -eu

if ! python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
    apt-get update
    apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv
fi

python3 -m venv /opt/build
/opt/build/bin/python -m pip install --no-cache-dir --constraint constraints.txt pip hatchling
python3 -m venv --without-pip /opt/pipespec/venv

install() {
    /opt/build/bin/python -m pip --python /opt/pipespec/venv/bin/python install \
        --no-cache-dir --no-compile --constraint constraints.txt "$@"
}

if [ -n "${TORCH:-}" ]; then
    # shellcheck disable=SC2086 # flags are words
    install ${TORCH_FLAGS:-} "$TORCH"
fi
python3 requirements.py pyproject.toml "$@" > requirements.txt
install --requirement requirements.txt dumb-init

# Half of the Kubernetes client is a second, asynchronous one, which nobody here imports: 80 MB with what it needs.
if [ -d "$(echo /opt/pipespec/venv/lib/python3*/site-packages/kubernetes/aio)" ]; then
    rm -r /opt/pipespec/venv/lib/python3*/site-packages/kubernetes/aio
    /opt/build/bin/python -m pip --python /opt/pipespec/venv/bin/python uninstall --yes \
        aiohappyeyeballs aiohttp aiohttp-retry aiosignal frozenlist multidict propcache yarl
fi

# Sources never change in an image: nothing is looked up before the compiled file is used. Packages carry a few files
# for newer Pythons than this one, which cannot be compiled and are never imported.
cd /opt/pipespec/venv
bin/python -m compileall -qq --invalidation-mode unchecked-hash lib || echo "some files are for newer Pythons"
bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | while read -r packages; do
    echo /opt/pipespec/app > "$packages/pipespec.pth"
done
