# SPDX-License-Identifier: MIT
"""What all fixtures of models share: random weights, the logits that transformers computes, the expected file."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

TEXT_LENGTH = 40
POSITIONS = [0, 1, 7, 15, 24, 32, 39]

# Less than a third of what the tests allow, so that what they see is an error and not the order of additions.
ROUNDING_LIMIT = 3e-5
# A feature that changes the logits by less could be missing without a test noticing.
EFFECT_LIMIT = 1e-2


def random_tokens(vocabulary: int, seed: int) -> list[int]:
    return torch.randint(vocabulary, (TEXT_LENGTH,), generator=torch.Generator().manual_seed(seed)).tolist()


def randomise(model: PreTrainedModel, seed: int) -> None:
    """Weights of a size at which logits are of order 1 to 10 and attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                # Gemma adds 1 itself.
                values = 0.2 * values + (0 if model.config.model_type.startswith("gemma") else 1)
            elif name.endswith("bias"):
                values = 0.5 * values
            else:
                gain = 2.5 if "lm_head" in name or "embed" in name else 1.2
                values = gain / parameter.shape[1] ** 0.5 * values
            parameter.copy_(values)


def load(directory: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()


def logits_of(model: torch.nn.Module, tokens: Sequence[int]) -> torch.Tensor:
    """[positions, vocabulary]"""
    with torch.no_grad():
        return model(torch.tensor([list(tokens)]), use_cache=False).logits[0].clone()


def reconfigured(model: PreTrainedModel, **changes: object) -> PreTrainedModel:
    """The same weights under a changed configuration."""
    config = type(model.config)(**(model.config.to_dict() | changes))
    other = type(model)._from_config(config, attn_implementation="eager")
    other.load_state_dict(model.state_dict())
    return other.eval()


def without_parameters(model: PreTrainedModel, suffix: str) -> PreTrainedModel:
    """A copy in which the parameters whose names end so are zero."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith(suffix):
                parameter.zero_()
    return other


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()


def check_effect(case: str, feature: str, logits: torch.Tensor, without: torch.Tensor) -> None:
    effect = difference(logits, without)
    if not effect > EFFECT_LIMIT:
        raise AssertionError(f"{case}: without {feature} the logits differ by {effect:.1e} only")


def check_conditioning(case: str, logits: torch.Tensor, model: torch.nn.Module, tokens: Sequence[int]) -> None:
    """The logits of float32 are near those of float64, and of a size that is worth comparing."""
    rounding = difference(logits, logits_of(model.double(), tokens))
    size = logits.std().item()
    if not rounding < ROUNDING_LIMIT:
        raise AssertionError(f"{case}: float32 and float64 differ by {rounding:.1e}")
    if not 0.5 < size < 10:
        raise AssertionError(f"{case}: the standard deviation of the logits is {size:.2f}")


def attention_is_uneven(case: str, model: PreTrainedModel, tokens: Sequence[int]) -> None:
    with torch.no_grad():
        attentions = model(torch.tensor([list(tokens)]), use_cache=False, output_attentions=True).attentions
    for layer, probabilities in enumerate(attentions):
        largest = probabilities[0, :, -1].max(dim=-1).values.mean().item()
        if not largest > 3 / len(tokens):
            raise AssertionError(f"{case}: layer {layer} attends evenly, at most {largest:.3f}")


def write_expected(path: Path, note: str, tokens: Sequence[int], logits: torch.Tensor,
                   positions: Sequence[int] = POSITIONS) -> None:
    """The logits of some positions, to 7 significant digits."""
    rows = ["[" + ",".join(f"{value:.7g}" for value in logits[p].tolist()) + "]" for p in positions]
    path.write_text(
        "{\n"
        f'"note": {json.dumps(note)},\n'
        f'"tokens": {json.dumps(list(tokens))},\n'
        f'"positions": {json.dumps(list(positions))},\n'
        '"logits": [\n' + ",\n".join(rows) + "\n]\n}\n"
    )


def to_adjacent(head: np.ndarray) -> np.ndarray:
    """Rows of one head from pairs (j, j + d/2), as transformers rotates, to pairs (2j, 2j + 1), as GGUF's Llamas."""
    half = len(head) // 2
    result = np.empty_like(head)
    result[0::2] = head[:half]
    result[1::2] = head[half:]
    return result


def to_half_split(head: np.ndarray) -> np.ndarray:
    """The inverse of to_adjacent."""
    return np.concatenate([head[0::2], head[1::2]])


def in_heads(rows: np.ndarray, head_dim: int, reorder: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Reorders the rows of each head of a query or key projection."""
    heads = rows.reshape(-1, head_dim, *rows.shape[1:])
    return np.stack([reorder(head) for head in heads]).reshape(rows.shape)


def other_pairs(model: PreTrainedModel, reorder: Callable[[np.ndarray], np.ndarray]) -> PreTrainedModel:
    """A copy whose rotation takes other dimensions together."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for layer in other.model.layers:
            attention = layer.self_attn
            for projection in (attention.q_proj, attention.k_proj):
                for parameter in projection.parameters():
                    parameter.copy_(torch.from_numpy(in_heads(parameter.numpy(), attention.head_dim, reorder)))
    return other
