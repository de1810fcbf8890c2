# SPDX-License-Identifier: MIT
"""Models in GGUF files, and the logits of the numbers that these stand for."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

import fixture_model as fixture
from gguf_blocks import Type, store

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
# Where there are norms behind the blocks, too, one name means another norm.
GEMMA_NAMES = NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
BASE = 10000.0
PLAIN_ROPE = {"rope_type": "default", "rope_theta": BASE}
SHAPE = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
}
# K-quants come in blocks of 256 columns. The two matrices whose columns are 32 become Q8_0.
WIDE_SHAPE = SHAPE | {"vocab_size": 40, "hidden_size": 256, "head_dim": 16, "tie_word_embeddings": True}


def is_gemma(config: PretrainedConfig) -> bool:
    return config.model_type.startswith("gemma")


def gguf_name(config: PretrainedConfig, name: str) -> str:
    """Of a tensor of transformers, "model.layers.0.self_attn.q_proj.weight"."""
    names = GEMMA_NAMES if is_gemma(config) else NAMES
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        _, _, layer, inner = module.split(".", 3)
        return f"blk.{layer}.{names[inner]}.{kind}"
    return f"{names[module]}.{kind}"


def is_permuted(architecture: str, name: str) -> bool:
    return architecture in ("llama", "smollm3") and ("q_proj" in name or "k_proj" in name)


class Case:
    """A GGUF file in the making, and the model of the numbers that it stands for."""

    def __init__(self, path: Path, config: PretrainedConfig, kind: Type, seed: int) -> None:
        self.path = path
        self.tokens = fixture.random_tokens(config.vocab_size, seed + 1000)
        self.model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=torch.float32, attn_implementation="eager").eval()
        fixture.randomise(self.model, seed)
        self.writer = gguf.GGUFWriter(path, config.model_type.removesuffix("_text"))
        self.add_shape(config)
        self.add_weights(kind, np.random.default_rng(seed))

    def head_dim(self) -> int:
        return self.model.model.layers[0].self_attn.head_dim

    def add_shape(self, config: PretrainedConfig) -> None:
        writer = self.writer
        writer.add_name(self.path.stem)
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        rope = config.rope_parameters.get("full_attention", config.rope_parameters)
        writer.add_rope_freq_base(rope["rope_theta"])
        if config.model_type in ("llama", "smollm3", "phi3"):
            writer.add_rope_dimension_count(int(self.head_dim() * rope.get("partial_rotary_factor", 1)))
        if self.head_dim() * config.num_attention_heads != config.hidden_size:
            writer.add_key_length(self.head_dim())
            writer.add_value_length(self.head_dim())

    def add_weights(self, kind: Type, random: np.random.Generator) -> None:
        """Puts the weights into the file, and what the file says back into the model."""
        config = self.model.config
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                values = parameter.numpy()
                if values.ndim == 1:
                    offset = 1 if is_gemma(config) and name.endswith("norm.weight") else 0
                    stored = values + np.float32(offset)
                    if config.model_type in ("llama", "smollm3") and name.endswith(("q_proj.bias", "k_proj.bias")):
                        stored = fixture.in_heads(values, self.head_dim(), fixture.to_adjacent)
                    self.writer.add_tensor(gguf_name(config, name), stored)
                    continue
                permuted = is_permuted(config.model_type, name)
                if permuted:
                    values = fixture.in_heads(values, self.head_dim(), fixture.to_adjacent)
                stored = store(values, kind, random)
                self.writer.add_tensor(gguf_name(config, name), stored.data, raw_dtype=stored.type)
                values = stored.values
                if permuted:
                    values = fixture.in_heads(values, self.head_dim(), fixture.to_half_split)
                parameter.copy_(torch.from_numpy(values))

    def finish(self, note: str, without: dict[str, PreTrainedModel] | None = None,
               positions: Sequence[int] = fixture.POSITIONS) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        name = self.path.name
        logits = fixture.logits_of(self.model, self.tokens)
        fixture.attention_is_uneven(name, self.model, self.tokens)
        others = dict(without or {})
        if hasattr(self.model.model.layers[0].self_attn, "q_proj"):
            others["its pairs"] = fixture.other_pairs(self.model, fixture.to_half_split)
        for feature, other in others.items():
            fixture.check_effect(name, feature, logits, fixture.logits_of(other, self.tokens))
        fixture.write_expected(self.path.with_suffix(".json"), note, self.tokens, logits, positions)
        fixture.check_conditioning(name, logits, self.model, self.tokens)


def check_permutation() -> None:
    """Rotating adjacent pairs of permuted rows is rotating half-split pairs of the rows."""
    half = 8
    head, angles = np.random.default_rng(0).normal(size=(2 * half, 5)), np.linspace(0.1, 3, half)
    turn = np.exp(1j * angles)[:, None]
    half_split = (head[:half] + 1j * head[half:]) * turn
    permuted = fixture.to_adjacent(head)
    adjacent = (permuted[0::2] + 1j * permuted[1::2]) * turn
    if not (np.array_equal(half_split, adjacent) and np.array_equal(fixture.to_half_split(permuted), head)):
        raise AssertionError("the permutation of query and key rows is wrong")


def write_types(models: Path) -> None:
    tied = SHAPE | {"tie_word_embeddings": True}
    deep = SHAPE | {"num_hidden_layers": 2}
    files = [
        ("gguf-f32", Type.F32, tied, "F32; the embedding is the classifier, so that output.weight is missing"),
        ("gguf-f16", Type.F16, SHAPE, "F16"),
        ("gguf-bf16", Type.BF16, SHAPE, "BF16"),
        ("gguf-q8_0", Type.Q8_0, deep, "Q8_0"),
        ("gguf-q4_0", Type.Q4_0, deep, "Q4_0"),
        ("gguf-q4_k", Type.Q4_K, WIDE_SHAPE, "Q4_K with random blocks; attn_output and ffn_down in Q8_0"),
        ("gguf-q6_k", Type.Q6_K, WIDE_SHAPE, "Q6_K with random blocks; attn_output and ffn_down in Q8_0"),
    ]
    more = [
        ("gguf-q4_1", Type.Q4_1, SHAPE, "Q4_1"),
        ("gguf-q5_0", Type.Q5_0, SHAPE, "Q5_0"),
        ("gguf-q5_1", Type.Q5_1, SHAPE, "Q5_1"),
        ("gguf-iq4_nl", Type.IQ4_NL, SHAPE, "IQ4_NL with random blocks"),
        ("gguf-q2_k", Type.Q2_K, WIDE_SHAPE, "Q2_K with random blocks; attn_output and ffn_down in Q8_0"),
        ("gguf-q3_k", Type.Q3_K, WIDE_SHAPE, "Q3_K with random blocks; attn_output and ffn_down in Q8_0"),
        ("gguf-q5_k", Type.Q5_K, WIDE_SHAPE, "Q5_K with random blocks; attn_output and ffn_down in Q8_0"),
        ("gguf-iq4_xs", Type.IQ4_XS, WIDE_SHAPE, "IQ4_XS with random blocks; attn_output and ffn_down in Q8_0"),
    ]
    for seed, (name, kind, shape, note) in [*enumerate(files, start=31), *enumerate(more, start=51)]:
        config = LlamaConfig(**shape, rope_parameters=PLAIN_ROPE)
        Case(models / f"{name}.gguf", config, kind, seed).finish(note)


def write_qwen2(models: Path) -> None:
    shape = SHAPE | {"tie_word_embeddings": True}
    config = Qwen2Config(**shape, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    case = Case(models / "gguf-qwen2.gguf", config, Type.Q8_0, seed=41)
    biases = ("q_proj.bias", "k_proj.bias", "v_proj.bias")
    case.finish("Q8_0, Qwen2: biases, half-split pairs",
                {bias: fixture.without_parameters(case.model, bias) for bias in biases})


def write_version_2(models: Path) -> None:
    path = models / "gguf-version-2.gguf"
    Case(path, LlamaConfig(**SHAPE, rope_parameters=PLAIN_ROPE), Type.Q8_0, seed=42).finish("Q8_0, GGUF version 2")
    contents = bytearray(path.read_bytes())
    contents[4:8] = (2).to_bytes(4, "little")  # to readers of little-endian files the versions are the same
    path.write_bytes(contents)


def write_rope_freqs(models: Path) -> None:
    # Heads of 16 have wavelengths 6.3, 20, 63 and longer: kept, between, divided.
    rope = {"rope_type": "llama3", "rope_theta": BASE, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}
    case = Case(models / "gguf-rope-freqs.gguf", LlamaConfig(**SHAPE, rope_parameters=rope), Type.Q8_0, seed=43)
    plain = fixture.reconfigured(case.model, rope_parameters=PLAIN_ROPE)
    divisors = plain.model.rotary_emb.inv_freq / case.model.model.rotary_emb.inv_freq
    case.writer.add_tensor("rope_freqs.weight", divisors.numpy())
    case.finish("Q8_0, LLaMA-3.1's rotary scaling as rope_freqs.weight", {"rope_freqs.weight": plain})


def write_rope_scaling(models: Path) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": BASE, "factor": 4.0, "original_max_position_embeddings": 32}
    linear = {"rope_type": "linear", "rope_theta": BASE, "factor": 2.0}
    for name, rope, seed in (("yarn", yarn, 44), ("linear", linear, 45)):
        config = LlamaConfig(**SHAPE, rope_parameters=rope)
        case = Case(models / f"gguf-{name}.gguf", config, Type.Q8_0, seed)
        case.writer.add_rope_scaling_type(gguf.RopeScalingType(name))
        case.writer.add_rope_scaling_factor(rope["factor"])
        without = {"the scaling": fixture.reconfigured(case.model, rope_parameters=PLAIN_ROPE)}
        if name == "yarn":
            case.writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
            without["the attention factor"] = fixture.reconfigured(
                case.model, rope_parameters=rope | {"attention_factor": 1.0})
        case.finish(f"Q8_0, rotary scaling {name}", without)


def with_vocabulary(path: Path, size: int, seed: int) -> Case:
    shape = SHAPE | {"vocab_size": size, "tie_word_embeddings": True}
    return Case(path, LlamaConfig(**shape, rope_parameters=PLAIN_ROPE), Type.Q8_0, seed)


def write_sentencepiece_vocabulary(models: Path, tokenizers: Path) -> None:
    """The tokenizer llama2 as it is kept in GGUF files."""
    vocabulary = json.loads((tokenizers / "llama2" / "vocabulary.json").read_text())
    case = with_vocabulary(models / "gguf-vocabulary-llama.gguf", len(vocabulary["tokens"]), seed=46)
    case.writer.add_tokenizer_model("llama")
    case.writer.add_token_list(vocabulary["tokens"])
    case.writer.add_token_scores(vocabulary["scores"])
    case.writer.add_token_types(vocabulary["types"])
    case.writer.add_unk_token_id(0)
    case.writer.add_bos_token_id(1)
    case.writer.add_eos_token_id(2)
    case.writer.add_add_bos_token(True)
    case.writer.add_add_eos_token(False)
    case.writer.add_add_space_prefix(True)
    case.finish("Q8_0, with the vocabulary of tokenizers/llama2", positions=[fixture.TEXT_LENGTH - 1])


def write_bpe_vocabulary(models: Path, tokenizers: Path) -> None:
    """The tokenizer llama3 as it is kept in GGUF files."""
    content = json.loads((tokenizers / "llama3" / "tokenizer.json").read_text())
    ids = content["model"]["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise AssertionError("the ids of tokenizers/llama3 have gaps")
    special = {token["content"] for token in content["added_tokens"] if token["special"]}
    types = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]

    case = with_vocabulary(models / "gguf-vocabulary-gpt2.gguf", len(tokens), seed=47)
    case.writer.add_tokenizer_model("gpt2")
    case.writer.add_tokenizer_pre("llama-bpe")
    case.writer.add_token_list(tokens)
    case.writer.add_token_types(types)
    case.writer.add_token_merges(merges)
    case.writer.add_bos_token_id(ids["<|begin_of_text|>"])
    case.writer.add_eos_token_id(ids["<|end_of_text|>"])
    case.writer.add_eot_token_id(ids["<|eot_id|>"])
    case.writer.add_add_bos_token(True)
    case.finish("Q8_0, with the vocabulary of tokenizers/llama3", positions=[fixture.TEXT_LENGTH - 1])


def write(models: Path, tokenizers: Path) -> None:
    check_permutation()
    write_types(models)
    write_qwen2(models)
    write_version_2(models)
    write_rope_freqs(models)
    write_rope_scaling(models)
    write_sentencepiece_vocabulary(models, tokenizers)
    write_bpe_vocabulary(models, tokenizers)
