"""Models with random weights in the shapes of known ones: timing needs the sizes, not the words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a Llama; names as in ``LlamaConfig``."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int

    def build(self, *, device: torch.device, dtype: torch.dtype, seed: int = 0) -> PreTrainedModel:
        """A model in evaluation mode; equal arguments give equal weights on equal devices."""
        config = LlamaConfig(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            vocab_size=self.vocab_size,
            max_position_embeddings=32_768,
            tie_word_embeddings=False,
            eos_token_id=None,
            bos_token_id=None,
        )
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.to_empty(device=device)
        generator = torch.Generator(device=device).manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("norm.weight"):
                    weight.fill_(1.0)
                else:
                    weight.normal_(0.0, self.hidden_size**-0.5, generator=generator)
        # Buffers are not parameters: the rotary frequencies are computed anew, on the device.
        model.model.rotary_emb = type(model.model.rotary_emb)(config=config).to(device)
        model.eval()
        return model


SHAPES = {
    "tiny": ModelShape(64, 128, 2, 4, 2, 512),
    "135m": ModelShape(576, 1536, 30, 9, 3, 49_152),
    "1b": ModelShape(2048, 8192, 16, 32, 8, 128_256),
    "8b": ModelShape(4096, 14_336, 32, 32, 8, 128_256),
}
"""By the names of the models whose sizes they have: SmolLM2-135M, Llama-3.2-1B, Llama-3.1-8B."""
