#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/fixtures: tokenizers, models with random weights, what the original libraries make of them, gradients."""

import argparse
import importlib.metadata
import json
import platform
import shutil
from pathlib import Path

import torch
import transformers

import adapter_fixtures
import architecture_fixtures
import dequantised_blocks
import gguf_fixtures
import gradient_fixtures
import huggingface_fixtures
import model_gradient_fixtures
import tokenizer_fixtures

PACKAGES = ["torch", "transformers", "peft", "safetensors", "gguf", "numpy", "tokenizers", "sentencepiece"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "tests" / "fixtures")
    out = parser.parse_args().out

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    tokenizers, models, gradients = out / "tokenizers", out / "models", out / "gradients"
    model_gradients = out / "model_gradients"
    for directory in (tokenizers, models, gradients, model_gradients):
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
    tokenizer_fixtures.write(tokenizers)
    huggingface_fixtures.write(models)
    adapter_fixtures.write(models)
    gguf_fixtures.write(models, tokenizers)
    architecture_fixtures.write(models)
    gradient_fixtures.write(gradients)
    model_gradient_fixtures.write(model_gradients, models)
    dequantised_blocks.write(out / "gguf_blocks.gguf")

    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    (out / "VERSIONS.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
