"""The chart's examples as running pods."""

from __future__ import annotations

from chart.release import render
from images.build import FOLDER, SLIM, STAGE
from images.cluster import Cluster
from images.containers import Containers


def cluster_of(example: str, *settings: str) -> Cluster:
    """The pods of ``helm/pipespec/examples/<example>.yaml``, not started yet, with the images that were built here.

    Args:
        example: name of the values file.
        settings: over its values, as of ``helm --set``.
    """
    images: list[str] = []
    for key, image in (("image", SLIM), ("stageImage", STAGE)):
        registry, rest = image.split("/", maxsplit=1)
        repository, tag = rest.rsplit(":", maxsplit=1)
        images += [f"{key}.registry={registry}", f"{key}.repository={repository}", f"{key}.tag={tag}"]
    return Cluster(Containers(FOLDER), render(example, *images, *settings, release="images"))
