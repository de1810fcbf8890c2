# SPDX-License-Identifier: MIT
"""Adapters of the model llama-mha, as PEFT and as LongLoRA's scripts leave them."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedModel

import fixture_model as fixture

BASE = "llama-mha"
PROJECTIONS = ["k_proj", "o_proj", "q_proj", "v_proj"]


def random_adapter(base: PreTrainedModel, config: LoraConfig, seed: int) -> PeftModel:
    """An adapter whose matrices are both far from zero, and whose other modules differ from the base's."""
    model = get_peft_model(base, config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.copy_(0.4 / parameter.shape[1] ** 0.5 * torch.randn(parameter.shape, generator=generator))
            elif "modules_to_save" in name or "trainable_tokens_delta" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def save(model: PeftModel, directory: Path, base: str = BASE, embedding_layers: bool | str = "auto") -> None:
    model.save_pretrained(directory, save_embedding_layers=embedding_layers)
    (directory / "README.md").unlink()
    # PEFT keeps module names in sets, whose order changes from run to run, and the path that the base came from.
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base
    for key in ("target_modules", "modules_to_save"):
        if config[key] is not None:
            config[key] = sorted(config[key])
    path.write_text(json.dumps(config, indent=2) + "\n")


def finish(models: Path, name: str, note: str, model: torch.nn.Module, tokens: list[int],
           without: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = fixture.logits_of(model, tokens)
    for feature, other in without.items():
        fixture.check_effect(name, feature, logits, other)
    fixture.check_conditioning(name, logits, model, tokens)
    fixture.write_expected(models / (name + ".json"), note, tokens, logits)
    return logits


def write_lora(models: Path) -> None:
    name = "adapter-lora"
    base = fixture.load(models / BASE)
    tokens = fixture.random_tokens(base.config.vocab_size, 2001)
    unadapted = fixture.logits_of(base, tokens)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=PROJECTIONS, task_type="CAUSAL_LM", bias="none")
    model = random_adapter(base, config, seed=21)
    save(model, models / name)
    without = {"the adapter": unadapted}
    for projection in PROJECTIONS:
        other = PeftModel.from_pretrained(fixture.load(models / BASE), models / name).eval()
        with torch.no_grad():
            for parameter_name, parameter in other.named_parameters():
                if f"{projection}.lora_B" in parameter_name:
                    parameter.zero_()
        without[f"the adapter of {projection}"] = fixture.logits_of(other, tokens)
    finish(models, name, "LoRA of rank 4 on q, k, v and o of llama-mha", model, tokens, without)


def write_modules_to_save(models: Path) -> None:
    name = "adapter-modules"
    base = fixture.load(models / BASE)
    tokens = fixture.random_tokens(base.config.vocab_size, 2002)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=PROJECTIONS, task_type="CAUSAL_LM",
                        modules_to_save=["embed_tokens", "input_layernorm", "norm", "post_attention_layernorm"])
    model = random_adapter(base, config, seed=22)
    save(model, models / name)
    without = {}
    for module in ("embed_tokens", "input_layernorm", "post_attention_layernorm", "model.norm"):
        other = PeftModel.from_pretrained(fixture.load(models / BASE), models / name).eval()
        with torch.no_grad():
            for parameter_name, parameter in other.named_parameters():
                if f"{module}.modules_to_save" in parameter_name:
                    saved = parameter_name.replace("modules_to_save.default", "original_module")
                    parameter.copy_(other.get_parameter(saved))
        without[f"its {module}"] = fixture.logits_of(other, tokens)
    finish(models, name, "LoRA of rank 8 on llama-mha, with its own embedding and norms", model, tokens, without)


def write_pickled(models: Path) -> None:
    """LongLoRA's get_trainable_weights.py, like old versions of PEFT, leaves adapter_model.bin."""
    name = "adapter-pickled"
    base = fixture.load(models / BASE)
    tokens = fixture.random_tokens(base.config.vocab_size, 2005)
    unadapted = fixture.logits_of(base, tokens)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = random_adapter(base, config, seed=25)
    save(model, models / name)
    torch.save(load_file(models / name / "adapter_model.safetensors"), models / name / "adapter_model.bin")
    (models / name / "adapter_model.safetensors").unlink()
    finish(models, name, "LoRA of rank 4 on q and v of llama-mha, in adapter_model.bin", model, tokens,
           {"the adapter": unadapted})


def write_trainable_params(models: Path, name: str, dtype: torch.dtype, seed: int) -> None:
    """LongLoRA and FreqKV train embedding and norms besides LoRA, and keep them in trainable_params.bin."""
    base = fixture.load(models / BASE)
    vocabulary = base.config.vocab_size
    tokens = fixture.random_tokens(vocabulary, 2000 + seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    model = random_adapter(base, config, seed)
    save(model, models / name)
    lora_only = fixture.logits_of(model, tokens)

    generator = torch.Generator().manual_seed(seed + 100)
    trained = {}
    for key, parameter in fixture.load(models / BASE).named_parameters():
        if "embed" in key or "norm" in key:
            values = parameter.detach() + 0.3 * torch.randn(parameter.shape, generator=generator)
            if "embed" in key:  # their tokenizers gain a padding token
                values = torch.cat([values, torch.randn(1, values.shape[1], generator=generator)])
            trained[key] = values.to(dtype)
    if dtype == torch.float32:
        trained = views_of_one_storage(trained)
    torch.save(trained, models / name / "trainable_params.bin")

    merged = model.merge_and_unload(safe_merge=True)
    with torch.no_grad():
        for key, values in trained.items():
            parameter = merged.get_parameter(key)
            parameter.copy_(values[: len(parameter)])
    note = f"LoRA of rank 8 on llama-mha, with embedding and norms in trainable_params.bin ({dtype})"
    finish(models, name, note, merged, tokens, {"trainable_params.bin": lora_only})


def views_of_one_storage(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as DeepSpeed's zero_to_fp32.py leaves them: parts of one flat buffer."""
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    views = {}
    offset = 0
    for key, tensor in tensors.items():
        views[key] = flat.narrow(0, offset, tensor.numel()).view(tensor.shape)
        offset += tensor.numel()
    return views


def write_saved_layers(models: Path) -> None:
    """Trained copies of embedding and classifier, each saved three times: as itself, as its copy, and the base's."""
    name = "adapter-saved-layers"
    base = fixture.load(models / BASE)
    tokens = fixture.random_tokens(base.config.vocab_size, 2006)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM",
                        modules_to_save=["embed_tokens", "lm_head"])
    model = random_adapter(base, config, seed=26)
    save(model, models / name, embedding_layers=True)
    without = {}
    for module in ("embed_tokens", "lm_head"):
        other = PeftModel.from_pretrained(fixture.load(models / BASE), models / name).eval()
        with torch.no_grad():
            for parameter_name, parameter in other.named_parameters():
                if f"{module}.modules_to_save" in parameter_name:
                    saved = parameter_name.replace("modules_to_save.default", "original_module")
                    parameter.copy_(other.get_parameter(saved))
        without[f"its {module}"] = fixture.logits_of(other, tokens)
    finish(models, name, "LoRA on llama-mha, with copies of embedding and classifier and the embedding layers saved",
           model, tokens, without)


def resized(models: Path, base: str, added: int, seed: int) -> PreTrainedModel:
    """The base with new tokens, whose rows are like the others in size."""
    model = fixture.load(models / base)
    size = model.config.vocab_size
    model.resize_token_embeddings(size + added, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for matrix in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            old = matrix[:size]
            matrix[size:] = old.std() * torch.randn(added, matrix.shape[1], generator=generator)
    return model


def with_new_tokens(size: int, added: int, seed: int) -> list[int]:
    tokens = fixture.random_tokens(size, seed)
    tokens[3 :: len(tokens) // added] = range(size, size + added)
    return tokens


def write_new_tokens(models: Path) -> None:
    """A base that was resized, which PEFT saves with the adapter."""
    name = "adapter-new-tokens"
    base = resized(models, BASE, 4, seed=127)
    tokens = with_new_tokens(base.config.vocab_size - 4, 4, 2007)
    unadapted = fixture.logits_of(base, tokens)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = random_adapter(base, config, seed=27)
    save(model, models / name, embedding_layers=True)
    finish(models, name, "LoRA on llama-mha with four new tokens", model, tokens, {"the adapter": unadapted})


def write_tokens(models: Path) -> None:
    name = "adapter-tokens"
    base = fixture.load(models / BASE)
    tokens = fixture.random_tokens(base.config.vocab_size, 2008)
    unadapted = fixture.logits_of(base, tokens)
    indices = sorted(set(tokens[:4]))
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj"], task_type="CAUSAL_LM",
                        trainable_token_indices={"embed_tokens": indices, "lm_head": [tokens[5]]})
    model = random_adapter(base, config, seed=28)
    save(model, models / name)
    finish(models, name, "LoRA on llama-mha, with rows of single tokens of embedding and classifier", model, tokens,
           {"the adapter": unadapted})


def write_tokens_tied(models: Path) -> None:
    """New tokens of a shared embedding, and an old one, trained alone."""
    name, base_name = "adapter-tokens-tied", "llama-tied"
    base = resized(models, base_name, 4, seed=129)
    size = base.config.vocab_size - 4
    tokens = with_new_tokens(size, 4, 2009)
    unadapted = fixture.logits_of(base, tokens)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj"], task_type="CAUSAL_LM",
                        trainable_token_indices=[tokens[0], *range(size, size + 4)])
    model = random_adapter(base, config, seed=29)
    save(model, models / name, base_name)
    finish(models, name, "LoRA on llama-tied, with the rows of an old and four new tokens", model, tokens,
           {"the adapter": unadapted})


def write_embedding_tied(models: Path) -> None:
    name, base_name = "adapter-embedding-tied", "llama-tied"
    base = fixture.load(models / base_name)
    tokens = fixture.random_tokens(base.config.vocab_size, 2010)
    unadapted = fixture.logits_of(base, tokens)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["embed_tokens"], task_type="CAUSAL_LM",
                        ensure_weight_tying=True)
    model = random_adapter(base, config, seed=30)
    save(model, models / name, base_name)
    finish(models, name, "LoRA of the shared embedding of llama-tied, which stays shared", model, tokens,
           {"the adapter": unadapted})


def write_patterns(models: Path) -> None:
    """Regular expressions, and several keys that fit: the first counts."""
    name = "adapter-patterns"
    base = fixture.load(models / BASE)
    tokens = fixture.random_tokens(base.config.vocab_size, 2011)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=PROJECTIONS, task_type="CAUSAL_LM",
                        rank_pattern={r"layers\.\d+\.self_attn\.q_proj": 2, "q_proj": 3, r"(?:k|v)_proj": 6},
                        alpha_pattern={"layers.0.self_attn.q_proj": 32, "q_proj": 4, ".*[ov]_proj": 8,
                                       "^model.layers.1.self_attn.o_proj": 64})
    model = random_adapter(base, config, seed=31)
    save(model, models / name)
    adapted = PeftModel.from_pretrained(fixture.load(models / BASE), models / name).eval()
    without = {}
    for projection in PROJECTIONS:
        other = PeftModel.from_pretrained(fixture.load(models / BASE), models / name).eval()
        for module_name, module in other.named_modules():
            if module_name.endswith(projection) and hasattr(module, "scaling"):
                module.scaling["default"] = 4.0
        without[f"the scale of {projection}"] = fixture.logits_of(other, tokens)
    finish(models, name, "LoRA of llama-mha, ranks and alphas by regular expressions", adapted, tokens, without)


def write(models: Path) -> None:
    write_lora(models)
    write_modules_to_save(models)
    write_trainable_params(models, "adapter-trainable-f32", torch.float32, seed=23)
    write_trainable_params(models, "adapter-trainable-bf16", torch.bfloat16, seed=24)
    write_pickled(models)
    write_saved_layers(models)
    write_new_tokens(models)
    write_tokens(models)
    write_tokens_tied(models)
    write_embedding_tied(models)
    write_patterns(models)
