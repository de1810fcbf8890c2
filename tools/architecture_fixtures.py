# SPDX-License-Identifier: MIT
"""Models of architectures other than Llama, in both formats: what each has beyond it shows in the logits."""

import copy
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

import fixture_model as fixture
import gguf_fixtures
import huggingface_fixtures
from gguf_blocks import Type
from huggingface_fixtures import PLAIN_ROPE

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
# The heads are wider than the stream.
WIDE = SHAPE | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
GEMMA = WIDE | {"query_pre_attn_scalar": 5, "sliding_window": 8}


def with_parameters(model: PreTrainedModel, suffix: str, value: float) -> PreTrainedModel:
    """A copy in which the parameters whose names end so have one value."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith(suffix):
                parameter.fill_(value)
    return other


class Pair:
    """The same configuration as a directory and as a GGUF file, with weights of their own."""

    def __init__(self, models: Path, name: str, model_class: type[PreTrainedModel], config: PretrainedConfig, seed: int,
                 **of_file: object) -> None:
        self.directory = huggingface_fixtures.Case(models / name, model_class, copy.deepcopy(config), torch.bfloat16,
                                                   seed)
        for key, value in of_file.items():  # where the format has no key for it
            setattr(config, key, value)
        self.file = gguf_fixtures.Case(models / f"gguf-{name}.gguf", config, Type.Q8_0, seed + 1)
        self.without: dict[str, PreTrainedModel] = {}

    def check(self, feature: str, change: object) -> None:
        """Without the feature, which is what `change` takes from a model, the logits are others."""
        self.directory.check_effect(feature, fixture.logits_of(change(self.directory.load()), self.directory.tokens))
        self.without[feature] = change(self.file.model)

    def check_setting(self, **changes: object) -> None:
        self.check(", ".join(changes), lambda model: fixture.reconfigured(model, **changes))

    def check_weights(self, suffix: str, neutral: float) -> None:
        self.check(suffix, lambda model: with_parameters(model, suffix, neutral))

    def write(self, note: str) -> None:
        self.directory.write("BF16, " + note)
        self.file.finish("Q8_0, " + note, self.without)


def write_llama_3_2(models: Path) -> None:
    # Heads of 16 have wavelengths 6.3, 20, 63 and longer: kept, between, divided.
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    config = LlamaConfig(**SHAPE, head_dim=16, rope_parameters=rope)
    pair = Pair(models, "llama-3.2", LlamaForCausalLM, config, seed=81)
    pair.check_setting(rope_parameters=PLAIN_ROPE)
    plain = fixture.reconfigured(pair.file.model, rope_parameters=PLAIN_ROPE)
    divisors = plain.model.rotary_emb.inv_freq / pair.file.model.model.rotary_emb.inv_freq
    pair.file.writer.add_tensor("rope_freqs.weight", divisors.numpy())
    pair.write("Llama 3.2: rotary scaling, the embedding is the classifier")


def write_qwen3(models: Path) -> None:
    config = Qwen3Config(**WIDE, rope_parameters=PLAIN_ROPE | {"rope_theta": 1e6})
    pair = Pair(models, "qwen3", Qwen3ForCausalLM, config, seed=61)
    pair.check_weights("q_norm.weight", 1)
    pair.check_weights("k_norm.weight", 1)
    pair.check_setting(rms_norm_eps=1e-2)
    pair.write("Qwen3: norms of queries and keys, four heads of 16 in a width of 32")


def write_smollm3(models: Path) -> None:
    shape = SHAPE | {"num_hidden_layers": 4}
    config = SmolLM3Config(**shape, rope_parameters=PLAIN_ROPE)
    pair = Pair(models, "smollm3", SmolLM3ForCausalLM, config, seed=63)
    pair.check_setting(no_rope_layers=[1, 1, 1, 1])
    pair.check_setting(no_rope_layers=[1, 1, 0, 1])
    pair.write("SmolLM3: the fourth layer does not rotate")

    # YaRN multiplies the queries and keys of those layers only that rotate.
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    shape = SHAPE | {"num_hidden_layers": 3}
    config = SmolLM3Config(**shape, no_rope_layers=[0, 1, 1], mlp_bias=True, attention_bias=True, rope_parameters=rope)
    case = huggingface_fixtures.Case(models / "smollm3-yarn", SmolLM3ForCausalLM, config, torch.bfloat16, 65)
    case.check_effect("the list of layers", case.logits_with(no_rope_layers=[1, 1, 1]))
    case.check_effect("the magnitude", case.logits_with(rope_parameters=rope | {"attention_factor": 1.0}))
    for bias in ("q_proj.bias", "o_proj.bias", "gate_proj.bias", "up_proj.bias", "down_proj.bias"):
        case.check_effect(bias, fixture.logits_of(with_parameters(case.load(), bias, 0), case.tokens))
    case.write("BF16, SmolLM3: the first layer does not rotate, YaRN, all biases")


def write_phi3(models: Path) -> None:
    shape = SHAPE | {"tie_word_embeddings": False, "hidden_size": 32}
    config = Phi3Config(**shape, sliding_window=None, rope_parameters=PLAIN_ROPE | {"partial_rotary_factor": 0.75})
    pair = Pair(models, "phi3", Phi3ForCausalLM, config, seed=66)
    pair.check_setting(rope_parameters=PLAIN_ROPE | {"partial_rotary_factor": 1.0})
    pair.write("Phi-3: joined projections, 12 of the 16 dimensions of a head turn")


def longrope(original: int) -> dict:
    return {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 2.5], "long_factor": [1.0, 1.5, 2.5, 4.0, 8.0, 16.0],
            "original_max_position_embeddings": original}


def write_phi3_longrope(models: Path) -> None:
    shape = SHAPE | {"tie_word_embeddings": False}
    for name, original, seed in (("phi3-longrope-short", 64, 68), ("phi3-longrope-long", 32, 70)):
        rope = longrope(original)
        config = Phi3Config(**shape, original_max_position_embeddings=original, rope_parameters=rope)
        pair = Pair(models, name, Phi3ForCausalLM, config, seed)
        used, other = ("short_factor", "long_factor") if original == 64 else ("long_factor", "short_factor")
        pair.check_setting(rope_parameters=rope | {used: rope[other]})
        pair.check_setting(rope_parameters=rope | {"attention_factor": 1.0})
        writer = pair.file.writer
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(pair.file.model.model.rotary_emb.attention_scaling)
        for kind in ("long", "short"):
            writer.add_tensor(f"rope_factors_{kind}.weight", np.array(rope[f"{kind}_factor"], dtype=np.float32))
        pair.write(f"Phi-3 with the rotary scaling longrope, of whose lists the {used} is used")


def write_gemma2(models: Path) -> None:
    config = Gemma2Config(**GEMMA, attn_logit_softcapping=4.0, final_logit_softcapping=5.0, rope_parameters=PLAIN_ROPE)
    pair = Pair(models, "gemma2", Gemma2ForCausalLM, config, seed=72, query_pre_attn_scalar=16)
    pair.check_setting(attn_logit_softcapping=None)
    pair.check_setting(final_logit_softcapping=None)
    pair.check_setting(sliding_window=9)
    pair.check_setting(layer_types=["full_attention", "sliding_attention"])
    pair.check_setting(hidden_activation="silu")
    pair.check_weights("post_attention_layernorm.weight", 0)
    pair.check_weights("post_feedforward_layernorm.weight", 0)
    writer = pair.file.writer
    writer.add_attn_logit_softcapping(4.0)
    writer.add_final_logit_softcapping(5.0)
    writer.add_sliding_window(8)
    pair.directory.check_effect("the divisor of scores", pair.directory.logits_with(query_pre_attn_scalar=16))
    pair.write("Gemma 2: caps, four norms a layer, GELU, a window of 8 in every other layer")


def write_gemma3(models: Path) -> None:
    shape = GEMMA | {"num_hidden_layers": 3, "query_pre_attn_scalar": 12}
    rope = {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    config = Gemma3TextConfig(**shape, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                              final_logit_softcapping=6.0, rope_parameters=rope)
    pair = Pair(models, "gemma3", Gemma3ForCausalLM, config, seed=74, query_pre_attn_scalar=16)
    pair.check_setting(rope_parameters=rope | {"sliding_attention": {"rope_type": "default", "rope_theta": 1e6}})
    pair.check_setting(rope_parameters=rope | {"full_attention": {"rope_type": "default", "rope_theta": 1e6}})
    pair.check_setting(sliding_window=7)
    pair.check_setting(final_logit_softcapping=None)
    pair.check_weights("q_norm.weight", 0)
    pair.check_weights("k_norm.weight", 0)
    pair.directory.check_effect("the divisor of scores", pair.directory.logits_with(query_pre_attn_scalar=5))
    writer = pair.file.writer
    writer.add_final_logit_softcapping(6.0)
    writer.add_sliding_window(8)
    writer.add_sliding_window_pattern([True, False, True])
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)
    pair.write("Gemma 3: norms of queries and keys, windows of 8 with a rotary base of their own, others scaled")


def write_gemma3_for_images(models: Path) -> None:
    text = GEMMA | {"layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 16}
    vision = {"hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
              "image_size": 8, "patch_size": 4, "vision_use_head": False}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    directory = models / "gemma3-for-images"
    model = Gemma3ForConditionalGeneration(config)
    fixture.randomise(model.model.language_model, 80)
    model.to(torch.bfloat16).save_pretrained(directory)
    model = Gemma3ForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = fixture.random_tokens(text["vocab_size"], 1080)
    logits = fixture.logits_of(model, tokens)
    fixture.check_conditioning(directory.name, logits, model, tokens)
    fixture.write_expected(directory.with_suffix(".json"), "BF16, Gemma 3 as a part of a model for images", tokens,
                           logits)


def write_mixed_windows(models: Path) -> None:
    config = Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=8, max_window_layers=1,
                         rope_parameters=PLAIN_ROPE)
    case = huggingface_fixtures.Case(models / "qwen2-windows", Qwen2ForCausalLM, config, torch.bfloat16, 76)
    case.check_effect("the window", case.logits_with(sliding_window=9))
    case.check_effect("its layer", case.logits_with(layer_types=["sliding_attention", "full_attention"]))
    case.write("BF16, Qwen2 with a window of 8 in its second layer")


def write_biases(models: Path) -> None:
    shape = SHAPE | {"tie_word_embeddings": False}
    config = LlamaConfig(**shape, attention_bias=True, mlp_bias=True, rope_parameters=PLAIN_ROPE)
    pair = Pair(models, "llama-biases", LlamaForCausalLM, config, seed=77)
    for bias in ("q_proj.bias", "v_proj.bias", "o_proj.bias", "gate_proj.bias", "up_proj.bias", "down_proj.bias"):
        pair.check_weights(bias, 0)
    pair.write("Llama with all biases")


def write_dynamic_beyond(models: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    shape = SHAPE | {"max_position_embeddings": 24, "num_hidden_layers": 1}
    config = LlamaConfig(**shape, rope_parameters=rope)
    case = huggingface_fixtures.Case(models / "llama-dynamic-beyond", LlamaForCausalLM, config, torch.bfloat16, 79)
    case.check_effect("the scaling", case.logits_with(rope_parameters=PLAIN_ROPE))
    case.write("BF16, dynamic NTK scaling in a text of 40 tokens, beyond the window of 24")


def write(models: Path) -> None:
    write_llama_3_2(models)
    write_qwen3(models)
    write_smollm3(models)
    write_phi3(models)
    write_phi3_longrope(models)
    write_gemma2(models)
    write_gemma3(models)
    write_gemma3_for_images(models)
    write_mixed_windows(models)
    write_biases(models)
    write_dynamic_beyond(models)
