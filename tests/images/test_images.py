"""What is in the images, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from images.build import FOLDER, ROOT, SLIM, STAGE
from images.containers import Containers
from images.pip_settings import settings
from images.stand_in import BASE

CONTAINERS = Containers(FOLDER)
LABEL = "org.opencontainers.image."


def described(image: str) -> Any:
    (description,) = json.loads(CONTAINERS.run("podman", "image", "inspect", image))
    return description


def inside(image: str, program: str) -> str:
    """What a program of its Python prints."""
    run = ("podman", "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--entrypoint=python")
    return CONTAINERS.run(*run, image, "-c", program).strip()


@pytest.mark.parametrize("image", [SLIM, STAGE])
def test_an_image_says_what_it_is_and_runs_as_nobody_special(image: str) -> None:
    config = described(image)["Config"]
    labels = {name.removeprefix(LABEL): value for name, value in config["Labels"].items()}
    assert labels["licenses"] == "Apache-2.0"
    assert f'version = "{labels["version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert {"title", "description", "revision", "source"} <= labels.keys()
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"][0] == "dumb-init"


@pytest.mark.parametrize("image", [SLIM, STAGE])
def test_no_layer_tells_how_the_building_machine_reaches_its_package_index(image: str) -> None:
    description = json.dumps(described(image))
    told = [value for name, value in settings().items() if "index" in name or "link" in name]
    assert not [value for value in told if value in description]
    assert inside(image, "import os; print(os.path.exists('/etc/pip.conf'))") == "False"


def test_the_slim_image_has_neither_torch_nor_pip_nor_weights() -> None:
    program = (
        "import importlib.util as u, pathlib; print([n for n in ('torch', 'transformers', 'pip') if u.find_spec(n)], "
        "list(pathlib.Path('/opt').rglob('*.safetensors')))"
    )
    assert inside(SLIM, program) == "[] []"


@pytest.mark.parametrize("image", [SLIM, STAGE])
def test_everything_is_compiled_before_it_runs(image: str) -> None:
    """A root that cannot be written would have it compiled again at every start."""
    program = (
        "import importlib.util as u, pathlib, sysconfig; import pipespec, pydantic; "
        "print(all(pathlib.Path(u.cache_from_source(m.__file__)).is_file() for m in (pipespec, pydantic)))"
    )
    assert inside(image, program) == "True"


def test_sizes(say: Callable[[str], None]) -> None:
    base, slim, stage = (round(described(image)["Size"] / 1e6) for image in (BASE, SLIM, STAGE))
    say(f"images: slim {slim} MB, stage {stage} MB (with the baked model), on a stand-in base of {base} MB")
    assert slim - base < stage - base
