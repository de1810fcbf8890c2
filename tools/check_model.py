#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the logits of a model, and of an adapter on it, with those that transformers and PEFT compute.

The texts fit into the model's window, so that nothing is compressed. With --text the tokens are those of the model's
own tokenizer, as transformers reads it; otherwise they are random.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from transformers import AutoTokenizer

import fixture_model as fixture

LIMIT = 1e-3
PROGRAM = Path(__file__).parent.parent / "build/release/examples/llama/print-logits"


def our_logits(program: Path, model: Path, adapter: Path | None, tokens: list[int]) -> torch.Tensor:
    command = [program.resolve(), "--policy", "full", "--model", model]
    if adapter is not None:
        command += ["--adapter", adapter]
    command += [str(token) for token in tokens]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return torch.tensor(json.loads(output))


def their_logits(model: Path, adapter: Path | None, tokens: list[int]) -> torch.Tensor:
    loaded = fixture.load(model)
    if adapter is not None:
        loaded = PeftModel.from_pretrained(loaded, adapter).eval()
    return fixture.logits_of(loaded, tokens)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory in Hugging Face layout")
    parser.add_argument("--adapter", type=Path, help="directory in PEFT's layout")
    parser.add_argument("--text", type=Path, help="file whose beginning is read [random tokens]")
    parser.add_argument("--tokens", type=int, default=64, help="how many are read [64]")
    parser.add_argument("--seed", type=int, default=1, help="of the random tokens [1]")
    parser.add_argument("--program", type=Path, default=PROGRAM, help="print-logits [%(default)s]")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    if arguments.text is not None:
        tokenizer = AutoTokenizer.from_pretrained(arguments.model)
        tokens = tokenizer.encode(arguments.text.read_text())[: arguments.tokens]
    else:
        vocabulary = json.loads((arguments.model / "config.json").read_text())["vocab_size"]
        generator = torch.Generator().manual_seed(arguments.seed)
        tokens = torch.randint(vocabulary, (arguments.tokens,), generator=generator).tolist()

    ours = our_logits(arguments.program, arguments.model, arguments.adapter, tokens)
    theirs = their_logits(arguments.model, arguments.adapter, tokens)
    if ours.shape != theirs.shape:
        print(f"logits of shape {list(ours.shape)}, must be {list(theirs.shape)}")
        return 1
    largest = fixture.difference(ours, theirs)
    print(f"{len(tokens)} tokens, logits up to {theirs.abs().max().item():.2f}; "
          f"largest difference: {largest:.2e}, allowed: {LIMIT:.0e}")
    return 0 if largest <= LIMIT else 1  # a NaN fails, too


if __name__ == "__main__":
    sys.exit(main())
