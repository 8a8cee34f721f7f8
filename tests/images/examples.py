"""The chart's examples as running pods."""

from __future__ import annotations

from collections.abc import Mapping

from images.build import FOLDER, ROOT, SLIM, STAGE
from images.cluster import Cluster
from images.containers import Containers
from images.helm_program import helm
from images.release import Release

CHART = ROOT / "helm" / "pipespec"


def cluster_of(example: str, settings: Mapping[str, str]) -> Cluster:
    """The pods of ``helm/pipespec/examples/<example>.yaml``, not started yet, with the images that were built here."""
    images = {}
    for key, image in (("image", SLIM), ("stageImage", STAGE)):
        registry, rest = image.split("/", maxsplit=1)
        repository, tag = rest.rsplit(":", maxsplit=1)
        images |= {f"{key}.registry": registry, f"{key}.repository": repository, f"{key}.tag": tag}
    release = Release.render(
        helm(FOLDER / "helm"),
        CHART,
        CHART / "examples" / f"{example}.yaml",
        name="images",
        settings={**images, **settings},
    )
    return Cluster(Containers(FOLDER), release)
