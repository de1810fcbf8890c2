# SPDX-License-Identifier: MIT
"""Models as save_pretrained lays them out in a directory."""

import json
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import fixture_model as fixture

SHAPE = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
# Three heads of eight; all sizes small, as the weights stay in F32.
MHA_SHAPE = SHAPE | {"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 3}
# Where what is tested does not depend on the number of layers.
SHALLOW_SHAPE = SHAPE | {"num_hidden_layers": 1}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}


class Case:
    """A model that was saved, read back in float32 and run."""

    def __init__(self, directory: Path, model_class: type[PreTrainedModel], config: PretrainedConfig,
                 dtype: torch.dtype, seed: int, **save_options: object) -> None:
        self.directory = directory
        self.name = directory.name
        self.tokens = fixture.random_tokens(config.vocab_size, seed + 1000)
        model = model_class(config)
        fixture.randomise(model, seed)
        model.to(dtype).save_pretrained(directory, **save_options)
        self.logits = fixture.logits_of(self.load(), self.tokens)
        fixture.attention_is_uneven(self.name, self.load(), self.tokens)
        fixture.check_conditioning(self.name, self.logits, self.load(), self.tokens)

    def load(self) -> PreTrainedModel:
        return fixture.load(self.directory)

    def logits_with(self, **changes: object) -> torch.Tensor:
        return fixture.logits_of(fixture.reconfigured(self.load(), **changes), self.tokens)

    def check_effect(self, feature: str, without: torch.Tensor) -> None:
        fixture.check_effect(self.name, feature, self.logits, without)

    def check_none(self, feature: str, without: torch.Tensor) -> None:
        if not torch.equal(self.logits, without):
            raise AssertionError(f"{self.name}: {feature} changes the logits")

    def write(self, note: str) -> None:
        fixture.write_expected(self.directory.with_name(self.name + ".json"), note, self.tokens, self.logits)

    def write_old_config(self, **rope: object) -> None:
        """config.json as version 4 of transformers wrote it, which most checkpoints come with."""
        path = self.directory / "config.json"
        config = json.loads(path.read_text())
        del config["rope_parameters"], config["head_dim"]
        config["torch_dtype"] = config.pop("dtype")
        config["transformers_version"] = "4.43.0"
        config |= rope
        path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
        self.check_none("the old form of config.json", fixture.logits_of(self.load(), self.tokens))


def write_mha(models: Path) -> None:
    config = LlamaConfig(**MHA_SHAPE, rope_parameters=PLAIN_ROPE)
    case = Case(models / "llama-mha", LlamaForCausalLM, config, torch.float32, seed=1)
    adjacent_pairs = fixture.other_pairs(case.load(), fixture.to_half_split)
    case.check_effect("half-split pairs", fixture.logits_of(adjacent_pairs, case.tokens))
    case.check_effect("its rotary base", case.logits_with(rope_parameters=PLAIN_ROPE | {"rope_theta": 5e3}))
    case.check_effect("its epsilon", case.logits_with(rms_norm_eps=1e-2))
    case.write("F32, as many key heads as query heads, a classifier of its own")


def write_gqa(models: Path) -> None:
    config = LlamaConfig(**SHAPE, rope_parameters=PLAIN_ROPE, rms_norm_eps=1e-5)
    case = Case(models / "llama-gqa", LlamaForCausalLM, config, torch.bfloat16, seed=2)
    heads_swapped = case.load()
    with torch.no_grad():
        for layer in heads_swapped.model.layers:
            for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj):
                projection.weight.copy_(projection.weight.roll(config.head_dim, 0))
    case.check_effect("the order of its key heads", fixture.logits_of(heads_swapped, case.tokens))
    case.write("BF16, two query heads for each key head")


def write_tied(models: Path) -> None:
    config = LlamaConfig(**SHALLOW_SHAPE | {"tie_word_embeddings": True}, rope_parameters=PLAIN_ROPE)
    case = Case(models / "llama-tied", LlamaForCausalLM, config, torch.float16, seed=3)
    case.write("F16, the embedding is the classifier")


def write_llama3(models: Path) -> None:
    # Heads of 20 at this base have wavelengths 6.3, 23 and 86 and longer: kept, between, divided.
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}
    shape = SHALLOW_SHAPE | {"hidden_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1,
                             "eos_token_id": [2, 5, 6]}
    config = LlamaConfig(**shape, rope_parameters=rope | {"rope_theta": 500000.0})
    case = Case(models / "llama-3", LlamaForCausalLM, config, torch.bfloat16, seed=4)
    plain = PLAIN_ROPE | {"rope_theta": 500000.0}
    full = rope | plain | {"rope_type": "llama3"}
    case.check_effect("the scaling", case.logits_with(rope_parameters=plain))
    case.check_effect("what is kept", case.logits_with(rope_parameters=full | {"high_freq_factor": 6.0}))
    case.check_effect("what is divided", case.logits_with(rope_parameters=full | {"low_freq_factor": 0.3}))
    case.check_effect("the ramp", case.logits_with(
        rope_parameters=full | {"low_freq_factor": 1.4, "high_freq_factor": 1.41}))
    case.write_old_config(rope_theta=500000.0, rope_scaling=rope)
    case.write("BF16, the rotary scaling of LLaMA-3.1, config.json in the form of transformers 4")


def write_yarn(models: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    shape = SHALLOW_SHAPE | {"num_attention_heads": 2, "num_key_value_heads": 1}  # heads of 16: eight frequencies
    config = LlamaConfig(**shape, rope_parameters=rope)
    case = Case(models / "llama-yarn", LlamaForCausalLM, config, torch.bfloat16, seed=5)
    case.check_effect("the scaling", case.logits_with(rope_parameters=PLAIN_ROPE))
    case.check_effect("the attention factor", case.logits_with(rope_parameters=rope | {"attention_factor": 1.0}))
    case.check_effect("whole dimensions", case.logits_with(rope_parameters=rope | {"truncate": False}))
    case.check_effect("the ramp", case.logits_with(rope_parameters=rope | {"rope_type": "linear"}))
    case.write("BF16, YaRN with all defaults")


def write_yarn_explicit(models: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
            "beta_fast": 4.0, "beta_slow": 0.5, "attention_factor": 1.3, "truncate": False}
    shape = SHALLOW_SHAPE | {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(**shape, rope_parameters=rope)
    case = Case(models / "llama-yarn-explicit", LlamaForCausalLM, config, torch.bfloat16, seed=6)
    for key, default in {"beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": None, "truncate": True}.items():
        case.check_effect(key, case.logits_with(rope_parameters=rope | {key: default}))
    case.write("BF16, YaRN with all parameters given")


def write_linear(models: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    config = LlamaConfig(**SHALLOW_SHAPE, rope_parameters=rope)
    case = Case(models / "llama-linear", LlamaForCausalLM, config, torch.bfloat16, seed=7)
    case.check_effect("the scaling", case.logits_with(rope_parameters=PLAIN_ROPE))
    case.write_old_config(rope_theta=10000.0, rope_scaling={"type": "linear", "factor": 2.0})
    case.write("BF16, positions divided by 2, config.json in the form of transformers 4")


def write_dynamic(models: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    config = LlamaConfig(**SHALLOW_SHAPE, rope_parameters=rope)
    case = Case(models / "llama-dynamic", LlamaForCausalLM, config, torch.bfloat16, seed=8)
    case.check_none("the scaling, in a text within the window,", case.logits_with(rope_parameters=PLAIN_ROPE))
    case.check_effect("a window that holds the text", case.logits_with(max_position_embeddings=16))
    case.write("BF16, dynamic NTK scaling, which does nothing in a text within the window")


def write_head_dim(models: Path) -> None:
    config = LlamaConfig(**SHALLOW_SHAPE, head_dim=12, rope_parameters=PLAIN_ROPE)
    case = Case(models / "llama-head-dim", LlamaForCausalLM, config, torch.bfloat16, seed=9)
    case.write("BF16, four heads of 12 in a width of 32")


def write_qwen2(models: Path) -> None:
    config = Qwen2Config(**SHAPE | {"tie_word_embeddings": True}, rope_parameters=PLAIN_ROPE | {"rope_theta": 1e6})
    case = Case(models / "qwen2", Qwen2ForCausalLM, config, torch.bfloat16, seed=10)
    for bias in ("q_proj.bias", "k_proj.bias", "v_proj.bias"):
        case.check_effect(bias, fixture.logits_of(fixture.without_parameters(case.load(), bias), case.tokens))
    case.write("BF16, Qwen2: q, k and v have biases; the embedding is the classifier")


def write_mistral(models: Path) -> None:
    config = MistralConfig(**SHALLOW_SHAPE, sliding_window=None, rope_parameters=PLAIN_ROPE)
    case = Case(models / "mistral", MistralForCausalLM, config, torch.bfloat16, seed=11)
    case.write("BF16, Mistral without a sliding window")

    config = MistralConfig(**SHALLOW_SHAPE, sliding_window=64, rope_parameters=PLAIN_ROPE)
    case = Case(models / "mistral-sliding", MistralForCausalLM, config, torch.bfloat16, seed=12)
    case.check_none("a window longer than the text", case.logits_with(sliding_window=None))
    case.check_effect("a window that holds the text", case.logits_with(sliding_window=16))
    case.write("BF16, Mistral with a sliding window of 64, more than the text's 40 tokens")


def write_sharded(models: Path) -> None:
    config = LlamaConfig(**SHAPE, rope_parameters=PLAIN_ROPE)
    case = Case(models / "llama-sharded", LlamaForCausalLM, config, torch.bfloat16, seed=13, max_shard_size="12KB")
    index = json.loads((case.directory / "model.safetensors.index.json").read_text())
    if len(set(index["weight_map"].values())) < 2:
        raise AssertionError("llama-sharded: the weights are in one file")
    case.write("BF16, the weights in several files with an index")


def write(models: Path) -> None:
    write_mha(models)
    write_gqa(models)
    write_tied(models)
    write_llama3(models)
    write_yarn(models)
    write_yarn_explicit(models)
    write_linear(models)
    write_dynamic(models)
    write_head_dim(models)
    write_qwen2(models)
    write_mistral(models)
    write_sharded(models)
