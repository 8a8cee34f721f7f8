"""Model folders that bring code: the service that should load one ends with a reason, and nothing of it runs. B20, B21."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from e2e.local_chain import free_port
from pipespec.emulation.vocabulary import byte_tokenizer

pytestmark = pytest.mark.e2e


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.trace,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Is there when code of the model has run."""
    return tmp_path / "trace"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that has everything, of a family that every stage knows; nobody gets as far as its weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"x": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def serve(service: list[str], model: Path) -> subprocess.CompletedProcess[str]:
    """Start a service over this model and wait for its end."""
    document = {
        "stages": [{"model": str(model)}],
        "brokers": [
            {"publish_port": free_port(), "subscribe_port": free_port(), "metrics_port": free_port()}
        ],
        "gateway": {"http_port": free_port(), "grpc_port": free_port(), "zmq_port": free_port()},
    }
    file = model.parent / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    return subprocess.run(
        [sys.executable, "-m", "pipespec.cli", "serve", *service, "--pipeline", str(file)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


STAGE, GATEWAY = ["stage", "--rank", "0"], ["gateway"]


def test_pickled_weights_are_refused(model: Path, trace: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(trace)))
    ended = serve(STAGE, model)
    assert ended.returncode != 0
    assert "pickled (*.bin), which can run code: convert them to safetensors" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not trace.exists()


def test_code_of_the_model_is_refused(model: Path, trace: Path) -> None:
    (model / "modeling_evil.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n")
    auto_map = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    (model / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto_map}))
    ended = serve(STAGE, model)
    assert ended.returncode != 0
    assert "cannot load the model" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not trace.exists()


@pytest.mark.parametrize("place", ["file", "config"])
def test_a_template_that_attacks_the_sandbox_is_refused(model: Path, trace: Path, place: str) -> None:
    template = f"{{{{ cycler.__init__.__globals__.os.mkdir({str(trace)!r}) }}}}"
    if place == "file":
        (model / "chat_template.jinja").write_text(template)
    else:
        (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    ended = serve(GATEWAY, model)
    assert ended.returncode != 0
    assert "chat template cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not trace.exists()
