# SPDX-License-Identifier: MIT
"""Gradients of chunked attention through its compressions, by automatic differentiation in double precision."""

import json
import math
from pathlib import Path

import torch

# The first chunk has 12 tokens, the following ones 5 (4 with the recent part, 7 at ratio 0.3).
COMMON = {"query_heads": 4, "kv_heads": 2, "key_dim": 6, "value_dim": 3, "rotated_dims": 4, "base": 100.0,
          "capacity": 12, "sinks": 2, "recent": 0, "ratio": 0.5, "pairing": "adjacent"}
CASES = {
    "uncompressed": {"tokens": 12},
    "once": {"tokens": 15, "pairing": "half_split"},
    "three-times": {"tokens": 25},
    "recent": {"tokens": 21, "recent": 3, "pairing": "half_split"},
    "ratio": {"tokens": 22, "ratio": 0.3, "query_heads": 2},
}


def numbers(state: int, *shape: int) -> tuple[torch.Tensor, int]:
    """Knuth's MMIX generator, upper 53 bits to [-1, 1): what the test can repeat without storing it."""
    values = []
    for _ in range(math.prod(shape)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append((state >> 11) / 2**52 - 1)
    return torch.tensor(values, dtype=torch.float64).reshape(shape), state


def dct_matrix(n: int) -> torch.Tensor:
    """The orthonormal DCT-II: row k is frequency k."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None, :]
    matrix = math.sqrt(2 / n) * torch.cos(math.pi * (2 * i + 1) * k / (2 * n))
    matrix[0] /= math.sqrt(2)
    return matrix


def compress(x: torch.Tensor, case: dict) -> torch.Tensor:
    """A full list [heads, capacity, dim]: low frequencies of what is between sinks and recent part."""
    end = x.shape[1] - case["recent"]
    span = end - case["sinks"]
    keep = math.floor(case["ratio"] * span)
    low_pass = math.sqrt(keep / span) * dct_matrix(keep).T @ dct_matrix(span)[:keep]
    return torch.cat([x[:, : case["sinks"]], low_pass @ x[:, case["sinks"] : end], x[:, end:]], dim=1)


def rotate(x: torch.Tensor, positions: torch.Tensor, case: dict) -> torch.Tensor:
    """Rotary embedding of the first rotated_dims of x [heads, tokens, dim]."""
    pairs = case["rotated_dims"] // 2
    frequencies = case["base"] ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    turn = torch.polar(torch.ones(len(positions), pairs, dtype=torch.float64), positions[:, None] * frequencies)
    turning, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
    if case["pairing"] == "adjacent":
        a, b = turning[..., 0::2], turning[..., 1::2]
    else:
        a, b = turning[..., :pairs], turning[..., pairs:]
    turned = torch.complex(a, b) * turn
    if case["pairing"] == "adjacent":
        return torch.cat([torch.stack([turned.real, turned.imag], dim=-1).flatten(-2), rest], dim=-1)
    return torch.cat([turned.real, turned.imag, rest], dim=-1)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, case: dict) -> tuple[torch.Tensor, int]:
    """A text [heads, tokens, dim] in chunks that fill the cache, which is compressed before each but the first."""
    keys, values, results, compressions, done = k[:, :0], v[:, :0], [], 0, 0
    while done < case["tokens"]:
        if keys.shape[1] == case["capacity"]:
            keys, values, compressions = compress(keys, case), compress(values, case), compressions + 1
        before = keys.shape[1]
        tokens = slice(done, min(case["tokens"], done + case["capacity"] - before))
        keys = torch.cat([keys, k[:, tokens]], dim=1)
        values = torch.cat([values, v[:, tokens]], dim=1)
        positions = torch.arange(keys.shape[1], dtype=torch.float64)
        group = case["query_heads"] // case["kv_heads"]
        rotated_keys = rotate(keys, positions, case).repeat_interleave(group, dim=0)
        scores = rotate(q[:, tokens], positions[before:], case) @ rotated_keys.mT / math.sqrt(case["key_dim"])
        scores = scores.masked_fill(positions[None, :] > positions[before:, None], -math.inf)
        results.append(torch.softmax(scores, dim=-1) @ values.repeat_interleave(group, dim=0))
        done = tokens.stop
    return torch.cat(results, dim=1), compressions


def write(directory: Path) -> None:
    """Each case's result and gradients, of the sum of the result weighted by the last of the drawn numbers."""
    for seed, (name, own) in enumerate(CASES.items(), start=1):
        case = COMMON | own | {"seed": seed}
        drawn, state = [], seed
        for heads, dim in (("query_heads", "key_dim"), ("kv_heads", "key_dim"), ("kv_heads", "value_dim"),
                           ("query_heads", "value_dim")):
            x, state = numbers(state, case[heads], case["tokens"], case[dim])
            drawn.append(x)
        q, k, v, weights = drawn
        inputs = [x.requires_grad_() for x in (q, k, v)]
        out, case["compressions"] = attention(*inputs, case)
        gradients = torch.autograd.grad((out * weights).sum(), inputs)
        for key, x in zip(("out", "d_q", "d_k", "d_v"), (out, *gradients)):
            case[key] = [float(f"{value:.10g}") for value in x.flatten().tolist()]
        (directory / f"{name}.json").write_text(json.dumps(case) + "\n")
