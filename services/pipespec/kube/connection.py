"""The connection to the API server: as a pod's service account, or as a kubeconfig says.

The library's own retries are off: they sleep inside a call for as long as the server's ``Retry-After`` says, and whoever
calls here has a lease to renew. Retrying is the callers', who know how long they may.
"""

from __future__ import annotations

import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from pipespec.ops.errors import SettingsError


def connect() -> ApiClient:
    """A client for the cluster that this process runs in, or else the current one of the kubeconfig; nothing is sent yet.

    Raises:
        SettingsError: neither is there, or it cannot be read.
    """
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException as not_in_cluster:
        try:
            load_kube_config(client_configuration=configuration)
        except (ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as no_kubeconfig:
            raise SettingsError(
                "no Kubernetes API to talk to: as a pod it needs a service account with its token mounted "
                f"({not_in_cluster}); elsewhere a kubeconfig, named by KUBECONFIG or ~/.kube/config ({no_kubeconfig})"
            ) from no_kubeconfig
    configuration.retries = False
    configuration.keep_alive = True
    return ApiClient(configuration)
