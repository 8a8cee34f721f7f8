"""The Kubernetes API: pods that come and go, scales, the lease of whoever leads. Alone imports `kubernetes`."""

from pipespec.ops.errors import SettingsError

try:
    import kubernetes  # noqa: F401 - whether it is there
except ModuleNotFoundError as error:
    raise SettingsError(
        f"talking to Kubernetes needs the Python package {error.name!r}, which is not installed; "
        "install PipeSpec with its extra: pip install 'pipespec[cluster]'"
    ) from error
