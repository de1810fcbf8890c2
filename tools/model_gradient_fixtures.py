# SPDX-License-Identifier: MIT
"""Gradients of losses with respect to all trained tensors, as transformers and PEFT compute them in double precision."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file

import adapter_fixtures
import fixture_model as fixture

# Each with the first token whose loss counts; those before it are a prompt.
CASES = {"llama-gqa": 1, "llama-head-dim": 1, "llama-yarn-explicit": 9, "qwen2": 13, "adapter-modules": 1}


def trained_model(models: Path, name: str) -> torch.nn.Module:
    if not name.startswith("adapter-"):
        return fixture.load(models / name, torch.float64)
    base = fixture.load(models / adapter_fixtures.BASE, torch.float64)
    return PeftModel.from_pretrained(base, models / name, is_trainable=True).double()


def plain_name(name: str) -> str:
    """A parameter's name without what PEFT wraps it in."""
    return name.removeprefix("base_model.model.").replace(".modules_to_save.default", "").replace(".default", "")


def write(directory: Path, models: Path) -> None:
    """For each case a text with its mean loss, and the loss's gradient in tensors of the parameters' names."""
    for seed, (name, first_target) in enumerate(CASES.items(), start=3001):
        model = trained_model(models, name)
        tokens = torch.tensor(fixture.random_tokens(model.config.vocab_size, seed))
        logits = model(tokens[None], use_cache=False).logits[0, first_target - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, tokens[first_target:])
        loss.backward()
        tensors = {plain_name(key): parameter.grad.float() for key, parameter in model.named_parameters()
                   if parameter.requires_grad}
        save_file(tensors, directory / f"{name}.safetensors")
        expected = {"tokens": tokens.tolist(), "first_target": first_target, "loss": float(f"{loss.item():.10g}")}
        (directory / f"{name}.json").write_text(json.dumps(expected) + "\n")
