#!/bin/sh
# Builds both images, then runs the pods of the chart's examples in namespaces of their own. As root; see README.md.
#     run.sh PYTHON [PYTEST_ARGUMENT...]
set -eu

python=$1
shift
tests=$(dirname "$0")

if [ "$(id -u)" -ne 0 ]; then
    echo "make test-images has to be run as root: it makes namespaces, networks and images" >&2
    exit 1
fi

# Of cgroups in both versions at once podman understands the first; nobody else sees that the second is gone here.
hide_cgroup2='if mountpoint --quiet /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi'

unshare --mount --fork --kill-child sh -euc "
    $hide_cgroup2
    PYTHONPATH=$tests/..:$tests/../.. exec timeout 3000 $python -m images.build
"

# Namespaces for processes, mounts and network: whatever happens, no pod and no address outlives this command. Their first
# process reaps what podman leaves behind.
PIPESPEC_TEST_IMAGES=1 exec unshare --mount --net --pid --fork --kill-child --mount-proc catatonit -- sh -euc "
    $hide_cgroup2
    mkdir -p /var/lib/cni
    for state in /run /var/lib/cni; do mount -t tmpfs -o mode=755 tmpfs \$state; done
    mkdir -p /run/pipespec-images/networks
    ip link set lo up
    status=0
    timeout 1200 $python -m pytest $tests -p no:cacheprovider \"\$@\" || status=\$?
    find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} + 2> /dev/null || true
    exit \$status
" run.sh "$@"
