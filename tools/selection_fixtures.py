# SPDX-License-Identifier: MIT
"""What kvpress keeps of the same keys, queries and values: python tools/selection_fixtures.py. Needs kvpress, which asks
for a transformers of its own (made with kvpress 0.5.5)."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from kvpress import KeyDiffPress, KnormPress, ObservedAttentionPress, SnapKVPress, TOVAPress

from gradient_fixtures import numbers, rotate

TOKENS, DIM, KEEP = 48, 8, 20
ROPE = {"rotated_dims": DIM, "base": 100.0, "pairing": "half_split"}


def kept(press, kv_heads: int, seed: int, undo_average: bool = False) -> list[list[int]]:
    """Of each KV head, the KEEP tokens that score highest (what the press protects counts among them)."""
    q, state = numbers(seed, 2 * kv_heads, TOKENS, DIM)
    k, state = numbers(state, kv_heads, TOKENS, DIM)
    positions = torch.arange(TOKENS, dtype=torch.float64)
    q, k = 3 * rotate(q, positions, ROPE), rotate(k, positions, ROPE)
    scores = q @ k.repeat_interleave(2, dim=0).transpose(1, 2) / math.sqrt(DIM)
    scores = scores.masked_fill(torch.ones(TOKENS, TOKENS).triu(1).bool(), -math.inf)
    module = SimpleNamespace(config=SimpleNamespace(num_attention_heads=2 * kv_heads, num_key_value_heads=kv_heads))
    result = press.score(module, torch.zeros(1, TOKENS, 1), k[None], k[None], scores.softmax(-1)[None], {})[0]
    if undo_average:
        result = result * torch.arange(TOKENS, 0, -1)
    ordered = result.sort(dim=-1, descending=True).values
    assert ((ordered[:, KEEP - 1] - ordered[:, KEEP]) > 1e-5).all(), "decides too closely; take another seed"
    return [sorted(row.topk(KEEP).indices.tolist()) for row in result]


if __name__ == "__main__":
    fixtures = {
        "tokens": TOKENS, "dim": DIM, "keep": KEEP, "query_factor": 3, **ROPE,
        "cases": {
            "snapkv": {"kv_heads": 2, "seed": 1, "kept": kept(SnapKVPress(window_size=8, kernel_size=5), 2, 1)},
            # The mean over all heads is that of one group where there is one KV head.
            "tova": {"kv_heads": 1, "seed": 2, "kept": kept(TOVAPress(), 1, 2)},
            "key-diff": {"kv_heads": 2, "seed": 3, "kept": kept(KeyDiffPress(), 2, 3)},
            "key-norm": {"kv_heads": 2, "seed": 4, "kept": kept(KnormPress(), 2, 4)},
            # H2O sums what kvpress averages over the queries that see an entry.
            "h2o": {"kv_heads": 2, "seed": 5, "kept": kept(ObservedAttentionPress(), 2, 5, undo_average=True)},
        },
    }
    path = Path(__file__).parent.parent / "tests" / "fixtures" / "selections.json"
    path.write_text(json.dumps(fixtures) + "\n")
