"""The OpenAPI document: in step with the code, and kept by a running gateway whatever is sent to it."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from gateway.scripted_backend import ScriptedBackend
from hostile.site import Site
from pipespec.emulation.vocabulary import byte_tokenizer
from pipespec.gateway.openai import create_app
from pipespec.gateway.openai.document import RANGES, openapi
from pipespec.gateway.openai.guard import OPEN_PATHS
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import RequestError
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.sampling import Sampling

FILE = Path(__file__).parents[2] / "proto" / "openapi.json"
EXAMPLES = int(os.environ.get("API_EXAMPLES", "10"))
"""Per operation, beside those that the document's every boundary gives; `make test-api` takes more."""


def test_the_file_is_in_step_with_the_code() -> None:
    assert json.loads(FILE.read_text()) == openapi(), "run `make proto`"


def test_every_route_is_described_and_nothing_else() -> None:
    app = create_app(
        backend=ScriptedBackend(),
        text=TextModel(byte_tokenizer()),
        settings=GatewaySettings(),
        model_name="small",
    )
    served = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    described = {(path, method) for path, item in openapi()["paths"].items() for method in item}
    assert served == described


def test_the_paths_without_security_are_those_that_the_guard_leaves_open() -> None:
    paths = openapi()["paths"]
    assert (
        tuple(path for path, item in paths.items() if item.get("get", {}).get("security") == []) == OPEN_PATHS
    )
    for path, item in paths.items():
        for operation in item.values():
            assert ("401" in operation["responses"]) == (path not in OPEN_PATHS)


@pytest.mark.parametrize("name", RANGES)
def test_its_ranges_are_those_of_sampling(name: str) -> None:
    bounds = RANGES[name]
    step = 1 if name == "top_k" else 1e-6
    low = bounds["minimum"] if "minimum" in bounds else bounds["exclusiveMinimum"] + step
    for inside in (low, bounds["maximum"]):
        Sampling(**{name: inside})
    below = bounds["minimum"] - step if "minimum" in bounds else bounds["exclusiveMinimum"]
    for outside in (below, bounds["maximum"] + step):
        with pytest.raises(RequestError):
            Sampling(**{name: outside})


def for_model(document: dict[str, Any], model: str) -> dict[str, Any]:
    """The document of a gateway that serves this model, so that generated requests get past its name."""
    own = copy.deepcopy(document)
    for body in ("CompletionBody", "ChatBody"):
        fields = own["components"]["schemas"][body]["properties"]
        fields["model"] = {"enum": [model]}
        del fields["timeout_s"]  # who asks for next to none gets 504, which is right
    return own


@pytest.mark.e2e
def test_a_running_gateway_keeps_to_it(site: Site, tmp_path: Path) -> None:
    """Statuses, headers and bodies as described, no 500, and nothing that the document forbids is taken."""
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(for_model(openapi(), site.running.pipeline.model_name)))
    options = ["--url", site.http, "--seed", "1", "--no-shrink", "--request-timeout", "60"]
    # What a schema cannot say, such as the length of the context, is refused with 400: no failure.
    checks = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    amount = ["--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--continue-on-failure"]
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    told = subprocess.run(
        [sys.executable, "-c", program, "run", str(file), *options, *checks, *amount],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
