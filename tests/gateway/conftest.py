"""Fixtures of the gateway's tests: a small byte-level tokenizer, its model folder, a scripted pipeline, servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gateway.resume.fellows import keeping
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "hello world, the quick brown fox jumps over the lazy dog",
    "user assistant system",
    "def f(x):\n    return x + 1\n",
    "café naïve 日本語 текст 👍🏽 😀",
] * 5
TEMPLATE = (
    "{%- for message in messages -%}\n"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}\n"
)


def small_tokenizer() -> Tokenizer:
    """Byte-level BPE with about 300 tokens, ids 0 to 2 special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a tokenizer and a chat template, without weights."""
    folder = tmp_path_factory.mktemp("model")
    small_tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="session")
def text(model_folder: Path) -> TextModel:
    """The text side of the small model."""
    return TextModel.load(model_folder)


@pytest.fixture
def backend(text: TextModel) -> ScriptedBackend:
    """A pipeline that says "Hello 👍🏽 world!" and then the end of text, one token at a time."""
    return ScriptedBackend([(token,) for token in [*text.encode("Hello 👍🏽 world!"), 2]], vocab_size=330)


@pytest.fixture
def settings() -> GatewaySettings:
    """Of the gateway: free ports on loopback."""
    return GatewaySettings(http_port=0, grpc_port=0, zmq_port=0, grpc_reflection=True, default_max_tokens=64)


@pytest.fixture
async def resume(settings: GatewaySettings) -> AsyncIterator[ResumeService]:
    """What keeps the resumable streams of the gateway."""
    async with keeping(settings) as service:
        yield service


@pytest.fixture
async def http_url(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, resume: ResumeService
) -> AsyncIterator[str]:
    """A running HTTP server's address."""
    app = create_app(
        backend=backend, text=text, settings=settings, model_name="small", resume=resume, keep_alive_s=0.05
    )
    server = await serve_http(app, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.port}"
    await server.stop(grace_s=0)


@pytest.fixture
async def http(http_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A raw HTTP client of it."""
    async with httpx.AsyncClient(base_url=http_url, timeout=10) as client:
        yield client
