# SPDX-License-Identifier: MIT
"""Writes tests/fixtures/gguf_blocks.gguf: random blocks of each type of weights that freqkv-llama reads, and
the same numbers as the package gguf (PyPI, version 0.19) dequantises them."""

import gguf
import numpy as np

# Type, blocks, and where in a block its halves stand.
TYPES = [
    (gguf.GGMLQuantizationType.F16, 32, [0]),
    (gguf.GGMLQuantizationType.BF16, 32, []),
    (gguf.GGMLQuantizationType.Q8_0, 4, [0]),
    (gguf.GGMLQuantizationType.Q4_0, 4, [0]),
    (gguf.GGMLQuantizationType.Q4_K, 2, [0, 2]),
    (gguf.GGMLQuantizationType.Q6_K, 2, [208]),
    (gguf.GGMLQuantizationType.Q4_1, 12, [0, 2]),
    (gguf.GGMLQuantizationType.Q5_0, 12, [0]),
    (gguf.GGMLQuantizationType.Q5_1, 12, [0, 2]),
    (gguf.GGMLQuantizationType.IQ4_NL, 12, [0]),
    (gguf.GGMLQuantizationType.Q2_K, 8, [80, 82]),
    (gguf.GGMLQuantizationType.Q3_K, 8, [108]),
    (gguf.GGMLQuantizationType.Q5_K, 8, [0, 2]),
    (gguf.GGMLQuantizationType.IQ4_XS, 8, [0]),
]

# The largest halves, the smallest, the largest subnormal one, zeros.
EXTREMES = [65504, -65504, 2.0**-24, -(2.0**-24), 2.0**-14 - 2.0**-24, 0.0, -0.0]


def random_blocks(rng, kind, count, halves):
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in halves:
        # Both signs and subnormal ones; no infinity, no NaN.
        values = rng.uniform(-1, 1, count) * 10.0 ** rng.uniform(-7, 2, count)
        if count > len(EXTREMES):
            values[: len(EXTREMES)] = rng.permutation(EXTREMES)
        blocks[:, at : at + 2] = values.astype(np.float16).view(np.uint8).reshape(count, 2)
    if kind == gguf.GGMLQuantizationType.BF16:
        blocks[:, 1] &= 0xBF  # below 2
    return blocks


def write(path):
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "blocks")
    for kind, count, halves in TYPES:
        row = random_blocks(rng, kind, count, halves).reshape(1, -1)
        writer.add_tensor(kind.name, row, raw_dtype=kind)
        writer.add_tensor(kind.name + ".expected", gguf.dequantize(row, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

