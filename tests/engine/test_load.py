"""Loading an engine from settings, and every way in which that is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, MambaConfig

from engine.schedule import Script, run_interleaved
from engine.tiny import BYTE_VOCAB, byte_tokenizer, save_tiny_model
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import VOCAB_SIZE
from pipespec.emulation.words import extend
from pipespec.engine.load import load_engine
from pipespec.engine.paged import PagedEngine
from pipespec.ops.errors import ModelError
from pipespec.ops.pipeline import Pipeline, StageKind, StageSettings
from pipespec.protocol.sampling import Sampling


def settings_of(folder: Path, **changes: object) -> StageSettings:
    return StageSettings.model_validate({"model": str(folder), "device": "cpu", **changes})


def test_a_model_folder_becomes_an_engine_with_its_identity(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1, vocab_size=BYTE_VOCAB + 5)
    loaded = load_engine(settings_of(folder, prefill_chunk=33))
    assert isinstance(loaded.engine, PagedEngine)
    assert (loaded.engine.max_batch, loaded.engine.max_chunk) == (64, 33)
    assert (loaded.engine.vocab_size, loaded.engine.context_len) == (BYTE_VOCAB + 5, 512)
    assert (loaded.model, len(loaded.weights), len(loaded.tokenizer)) == (str(folder), 16, 16)
    assert not loaded.engine.is_model_free


def test_a_loaded_engine_says_what_generate_says(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=4)
    ids = torch.tensor([list(range(20, 40))])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30)
    reference = output[0, ids.shape[1] :].tolist()
    script = Script(prompt=ids[0].tolist(), reference=reference, vocab_size=BYTE_VOCAB, seed=0)
    run_interleaved(load_engine(settings_of(folder)).engine, [script], sampling=Sampling(), seed=0)
    assert script.picked[: len(reference)] == reference


def test_the_dtype_is_part_of_the_identity(tmp_path):
    """Rounding changes the output, so replicas of different dtypes never serve one session."""
    folder = save_tiny_model(tmp_path / "model", seed=1)
    float32, auto, bfloat16 = (
        load_engine(settings_of(folder, dtype=dtype)).weights for dtype in ("float32", "auto", "bfloat16")
    )
    assert float32 == auto != bfloat16


def test_the_suffix_kind_needs_neither_model_nor_torch():
    program = (
        "import sys; from pipespec.engine.load import load_engine; from pipespec.ops.pipeline import StageSettings;"
        "loaded = load_engine(StageSettings(kind='suffix', min_match=3));"
        "assert loaded.engine.is_model_free;"
        "assert (loaded.model, loaded.weights, loaded.tokenizer) == ('suffix', b'', b'');"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


EMULATED = {"kind": "emulated", "emulation": {"latency_ms": {1: 0}, "seed": 3}}


def test_the_emulated_kind_needs_neither_model_nor_torch():
    program = (
        "import sys; from pipespec.engine.load import load_engine; from pipespec.ops.pipeline import StageSettings;"
        f"loaded = load_engine(StageSettings.model_validate({EMULATED!r}));"
        "assert not loaded.engine.is_model_free;"
        "assert (loaded.model, len(loaded.weights), len(loaded.tokenizer)) == ('emulated', 16, 16);"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_emulated_draft_speaks_the_language_of_the_stages_after_it():
    draft = {"kind": "emulated", "emulation": {"latency_ms": {1: 0}, "agreement": 0.5}}
    stages = Pipeline.model_validate({"stages": [draft, EMULATED]}).stages
    language = language_of(stages)
    reference = []
    state = language.state_of([70])
    for _ in range(40):
        reference.append(language.pick(state, 0))
        state = extend(state, reference[-1])
    script = Script(prompt=[70], reference=reference, vocab_size=VOCAB_SIZE, seed=0)
    engine = load_engine(stages[0], later=stages[1:]).engine
    run_interleaved(engine, [script], sampling=Sampling(), seed=0)
    assert script.picked[:40] == reference


def test_the_language_is_an_emulated_stages_identity_and_its_latency_is_not():
    def weights(**changes):
        emulation = {**EMULATED["emulation"], **changes}
        return load_engine(StageSettings.model_validate({**EMULATED, "emulation": emulation})).weights

    assert weights() == weights(latency_ms={1: 5}, jitter=0.1) != weights(seed=4)


def test_pickled_weights_are_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        load_engine(settings_of(folder))


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of the model's tensors.*layers\.1\.mlp\.up_proj"):
        load_engine(settings_of(folder))


def test_a_cut_off_checkpoint_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="cannot load the model"):
        load_engine(settings_of(folder))


def test_a_model_that_brings_its_own_code_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    (folder / "modeling_evil.py").write_text("raise SystemExit('was run')")
    config = '{"model_type": "evil", "auto_map": {"AutoConfig": "modeling_evil.C", "AutoModelForCausalLM": "modeling_evil.M"}}'
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match="cannot load the model"):
        load_engine(settings_of(folder))


def test_a_recurrent_model_is_refused(tmp_path):
    config = MambaConfig(vocab_size=BYTE_VOCAB, hidden_size=32, num_hidden_layers=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match=r"'mamba' .* cannot be served: 0 of its 2 layers keep"):
        load_engine(settings_of(tmp_path))


def test_a_config_of_wrong_types_is_a_model_error(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": "many"}))
    with pytest.raises(ModelError, match="cannot load the model"):
        load_engine(settings_of(folder))


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (0.0, "equally likely")])
def test_weights_that_are_no_weights_are_told_from_a_family_that_does_not_fit(tmp_path, value, said):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(value)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=said):
        load_engine(settings_of(folder))


def test_a_context_shorter_than_the_start_up_test_is_refused(tmp_path):
    config = GPT2Config(vocab_size=BYTE_VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=40)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="context of 40 tokens"):
        load_engine(settings_of(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_says_so(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=1)
    with pytest.raises(ModelError, match="has no CUDA"):
        load_engine(settings_of(folder, device="cuda"))


def test_a_model_that_is_not_there_says_how_to_fetch_it():
    settings = StageSettings(kind=StageKind.TRANSFORMERS, model="nobody/never-fetched")
    with pytest.raises(ModelError, match="pipespec models fetch nobody/never-fetched"):
        load_engine(settings)


@pytest.mark.model
def test_the_embedded_model_says_what_generate_says(embedded_model):
    """SmolLM2-135M: chat prompt, chunked prefill, candidates, rollbacks; greedy, float32."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    model = AutoModelForCausalLM.from_pretrained(embedded_model, dtype=torch.float32)
    chat = [{"role": "user", "content": "Count from one to five, then stop."}]
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    ).input_ids
    output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    reference = output[0, ids.shape[1] :].tolist()
    engine = load_engine(StageSettings(model="embedded:smollm2-135m-instruct", device="cpu")).engine
    script = Script(prompt=ids[0].tolist(), reference=reference, vocab_size=engine.vocab_size, seed=0)
    run_interleaved(engine, [script], sampling=Sampling(), seed=0)
    assert script.picked[: len(reference)] == reference
