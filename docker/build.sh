#!/bin/sh
# Builds both images, or those that are named: build.sh [slim] [stage]
# With the first of docker, podman and buildah that works here, unless ENGINE says which; with PUSH=1 they go to the registry
# that PREFIX names. README.md has the settings.
set -eu
cd "$(dirname "$0")/.."

works() {
    command -v "$1" > /dev/null && "$1" info > /dev/null 2>&1
}

engine() {
    for one in docker podman buildah; do
        if works "$one"; then
            echo "$one"
            return
        fi
    done
    echo "no docker, podman or buildah works here: install one, or start its daemon" >&2
    exit 1
}

given() { # name: as a build argument, where it is set
    eval "value=\${$1:-}"
    [ -z "$value" ] || printf '%s\n' "--build-arg=$1=$value"
}

ENGINE=${ENGINE:-$(engine)}
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION=$(git rev-parse HEAD 2> /dev/null || echo unknown)
[ -z "$(git status --porcelain -- . 2> /dev/null)" ] || REVISION=$REVISION-dirty
TAG=${TAG:-$VERSION}

[ $# -gt 0 ] || set -- slim stage
for target; do
    case $target in
        slim) name=${PREFIX:-}pipespec ;;
        stage) name=${PREFIX:-}pipespec-stage ;;
        *) echo "build.sh: $target: expected slim or stage" >&2; exit 2 ;;
    esac
    echo "building $name:$TAG with $ENGINE"
    (
        IFS='
'
        # shellcheck disable=SC2046 # one argument a line
        set -- $(given PYTHON_IMAGE) $(given STAGE_IMAGE) $(given TORCH) $(given TORCH_FLAGS) $(given MODEL)
        unset IFS
        # shellcheck disable=SC2086 # ENGINE and BUILD_FLAGS are words
        $ENGINE build --file docker/Dockerfile --target "$target" --tag "$name:$TAG" "$@" \
            --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" --build-arg "SOURCE=${SOURCE:-unknown}" \
            ${PIP_CONF:+--secret id=pip,src="$PIP_CONF"} ${BUILD_FLAGS:-} .
    )
    [ -z "${PUSH:-}" ] || $ENGINE push "$name:$TAG"
done
