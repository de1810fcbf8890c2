#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the losses of a GGUF model over a text, under the full cache, with those that transformers computes in
float32 from the weights as the package gguf dequantises them.

The tokens are those of the vocabulary in the file, by transformers' tokenizer, or are read from --token-file; both
sides get the same. Llama only, without rotary scaling.
"""

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import fixture_model as fixture
from gguf_fixtures import gguf_name, is_permuted

LIMIT = 1e-4
PROGRAM = Path(__file__).parent.parent / "build/release/examples/llama/freqkv-llama"


def load(reader: gguf.GGUFReader) -> LlamaForCausalLM:
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def value(key: str) -> object:
        return reader.fields[f"llama.{key}"].contents()

    heads = value("attention.head_count")
    config = LlamaConfig(
        vocab_size=int(tensors["token_embd.weight"].shape[1]), hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"), num_hidden_layers=value("block_count"),
        num_attention_heads=heads, num_key_value_heads=value("attention.head_count_kv"),
        max_position_embeddings=value("context_length"), rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")},
        tie_word_embeddings="output.weight" not in tensors)
    model = LlamaForCausalLM(config).eval()
    unread = set(tensors)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = tensors[gguf_name(name)]
            unread.remove(tensor.name)
            values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(parameter.shape))
            if is_permuted("llama", name):
                values = fixture.in_heads(values, model.model.layers[0].self_attn.head_dim, fixture.to_half_split)
            parameter.copy_(torch.from_numpy(np.array(values, dtype=np.float32)))
    if unread:
        raise SystemExit(f"tensors that are not read here: {', '.join(sorted(unread))}")
    return model


def their_losses(model: LlamaForCausalLM, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        hidden = model.model(torch.tensor([tokens]), use_cache=False).last_hidden_state[0, :-1]
        targets = torch.tensor(tokens[1:])
        losses = [torch.nn.functional.cross_entropy(model.lm_head(part).double(), wanted, reduction="none")
                  for part, wanted in zip(hidden.split(512), targets.split(512), strict=True)]
    return torch.cat(losses).numpy()


def our_losses(program: Path, model: Path, tokens: list[int]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as directory:
        ids = Path(directory) / "ids"
        ids.write_text(" ".join(map(str, tokens)))
        command = [program, "perplexity", "--model", model, "--token-file", ids, "--policy", "full", "--json", "-"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return np.array(json.loads(output)["nll"])


def tokens_of(arguments: argparse.Namespace) -> list[int]:
    if arguments.token_file is not None:
        return list(map(int, arguments.token_file.read_text().split()))
    path = arguments.text
    text = (lzma.open(path) if path.suffix == ".xz" else path.open("rb")).read(16 * arguments.tokens + 65536)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model.parent, gguf_file=arguments.model.name)
    return tokenizer.encode(text.decode(errors="ignore"), add_special_tokens=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", type=Path, help="file whose beginning is read, also .xz")
    source.add_argument("--token-file", type=Path, help="decimal token ids")
    parser.add_argument("--tokens", type=int, default=8192, help="how many are read [8192]")
    parser.add_argument("--threads", type=int, default=1, help="of transformers [1]")
    parser.add_argument("--program", type=Path, default=PROGRAM, help="freqkv-llama [%(default)s]")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    tokens = tokens_of(arguments)[: arguments.tokens]
    ours = our_losses(arguments.program.resolve(), arguments.model, tokens)
    theirs = their_losses(load(gguf.GGUFReader(arguments.model)), tokens)
    if ours.shape != theirs.shape:
        print(f"{len(ours)} losses, must be {len(theirs)}")
        return 1
    perplexities = [float(np.exp(losses.mean())) for losses in (ours, theirs)]
    relative = abs(perplexities[0] / perplexities[1] - 1)
    print(f"{len(tokens)} tokens: perplexity {perplexities[0]:.6f}, of transformers {perplexities[1]:.6f}; they differ "
          f"by {relative:.1e}, allowed: {LIMIT:.0e}; single losses by up to {np.abs(ours - theirs).max():.1e}")
    return 0 if relative <= LIMIT else 1  # a NaN fails, too


if __name__ == "__main__":
    sys.exit(main())
