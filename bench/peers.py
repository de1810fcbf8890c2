# SPDX-License-Identifier: MIT
"""The peers that are Python libraries, for compare.py: SciPy, NumPy, PyTorch. Each result is checked against
double precision before anything is timed. How many threads they use is for the environment to say."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from timeit import repeat, timeit
from types import ModuleType
from typing import Any

COLUMNS = 128  # of a KV head
QUERY_HEADS, ENTRIES, HEAD_DIM = 32, 4096, 128  # as in attention_bench.cpp
CACHES_BYTES = 256 << 20


class CannotRun(Exception):
    """Something that was asked for cannot be measured; the message is one line."""


def import_or_none(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def dense_operator(numpy: ModuleType, n: int, kept: int) -> Any:
    """The whole compression as a matrix in double: transform, truncation, inverse and amplitude."""

    def dct(length: int) -> Any:  # orthonormal, the first `kept` rows; angles are reduced as integers
        angles = numpy.outer(numpy.arange(kept), 2 * numpy.arange(length) + 1) % (4 * length)
        matrix = numpy.cos(angles * (numpy.pi / (2 * length))) * math.sqrt(2 / length)
        matrix[0] *= math.sqrt(0.5)
        return matrix

    return math.sqrt(kept / n) * (dct(kept).T @ dct(n))


def compression_peers(n: int) -> dict[str, Callable[[], Any]]:
    numpy, fft = import_or_none("numpy"), import_or_none("scipy.fft")
    if numpy is None or fft is None:
        raise CannotRun("NumPy or SciPy is missing: pip install -r bench/requirements.txt")
    kept = n // 2
    x = numpy.random.default_rng(1).standard_normal((n, COLUMNS)).astype(numpy.float32)
    exact = dense_operator(numpy, n, kept)
    operator, amplitude = exact.astype(numpy.float32), numpy.float32(math.sqrt(kept / n))

    def scipy_route() -> Any:
        y = fft.dct(x, type=2, norm="ortho", axis=0, workers=1)
        return fft.idct(y[:kept], type=2, norm="ortho", axis=0, workers=1) * amplitude

    peers = {"SciPy dct, idct": scipy_route, "dense operator, BLAS": lambda: operator @ x}
    expected = exact @ x.astype(numpy.float64)
    for name, peer in peers.items():
        error = float(abs(peer() - expected).max() / abs(expected).max())
        if not error < 1e-5:
            raise CannotRun(f"{name} is wrong at {n}: relative error {error:.1e}")
    return peers


def torch_seconds(torch: ModuleType, storage: str, kv_heads: int, queries: int) -> float:
    """PyTorch's time for one call, the caches from memory; the result is checked first."""
    q, k, v = (torch.randn(1, heads, rows, HEAD_DIM).to(getattr(torch, storage))
               for heads, rows in ((QUERY_HEADS, queries), (kv_heads, ENTRIES), (kv_heads, ENTRIES)))
    # Query i is entry ENTRIES - queries + i and attends to everything up to itself.
    mask = torch.ones(queries, ENTRIES, dtype=torch.bool).tril(ENTRIES - queries)

    def attend(keys: Any, values: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask if queries > 1 else None, enable_gqa=kv_heads < QUERY_HEADS)

    keys, values = (entries.double().repeat_interleave(QUERY_HEADS // kv_heads, dim=1) for entries in (k, v))
    scores = q[:, :, -4:].double() @ keys.mT / math.sqrt(HEAD_DIM)
    expected = scores.masked_fill(~mask[-4:], -math.inf).softmax(-1) @ values
    error = float((attend(k, v)[:, :, -4:].double() - expected).abs().max() / expected.abs().max())
    if not error < (1e-5 if storage == "float32" else 3e-2):
        raise CannotRun(f"PyTorch's attention, {storage}, is wrong: relative error {error:.1e}")
    if queries > 1:
        return timeit(lambda: attend(k, v), number=1)
    caches = [(k.clone(), v.clone()) for _ in range(math.ceil(CACHES_BYTES / (2 * k.nbytes)))]
    return min(repeat(lambda: [attend(*pair) for pair in caches], number=1, repeat=3)) / len(caches)
