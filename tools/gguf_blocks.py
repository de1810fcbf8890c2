# SPDX-License-Identifier: MIT
"""Weights in GGUF's storage types: stored from floats, or made up where no quantiser is at hand."""

import dataclasses

import gguf
import numpy as np

Type = gguf.GGMLQuantizationType

K_BLOCK = 256

# The types that the package reads but has no quantiser for: where in a block the half for the scales stands, and the
# half for the minima, if the type has any.
HALVES = {
    Type.IQ4_NL: (0, None),
    Type.IQ4_XS: (0, None),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108, None),
    Type.Q5_K: (0, 2),
}


@dataclasses.dataclass
class Stored:
    """A matrix as the file holds it, and the numbers that this stands for."""

    type: Type
    data: np.ndarray  # [rows, bytes of a row], or floats
    values: np.ndarray  # [rows, columns], float32


def store(values: np.ndarray, kind: Type, random: np.random.Generator) -> Stored:
    """K-quants and IQ4 take nothing but the shape and the size of the numbers from `values`."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if kind in HALVES:
        block, _ = gguf.GGML_QUANT_SIZES[kind]
        if values.shape[-1] % block != 0:
            return store(values, Type.Q8_0, random)
        data = random_blocks(kind, values.size // block, float(values.std()), random).reshape(values.shape[0], -1)
        return Stored(kind, data, gguf.dequantize(data, kind).reshape(values.shape).astype(np.float32))
    if kind in MADE_UP:
        if values.shape[-1] % K_BLOCK != 0:
            kind = Type.Q8_0  # as files do with matrices that the block does not divide
        else:
            make_up, dequantise = MADE_UP[kind]
            blocks = make_up(values.size // K_BLOCK, float(values.std()), random)
            result = dequantise(blocks).reshape(values.shape)
            data = blocks.reshape(values.shape[0], -1)
            if not np.array_equal(result, gguf.dequantize(data, kind)):
                raise AssertionError(f"{kind.name}: the blocks read differently by package gguf")
            return Stored(kind, data, result)
    data = gguf.quantize(values, kind)
    return Stored(kind, data, gguf.dequantize(data, kind).reshape(values.shape).astype(np.float32))


def half(values: np.ndarray) -> np.ndarray:
    """Bytes of float16 numbers, [count, 2]."""
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def from_half(bytes_of: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bytes_of).view("<f2").astype(np.float32)


def random_blocks(kind: Type, count: int, size: float, random: np.random.Generator) -> np.ndarray:
    """[count, bytes of a block]: all bits at random but for the halves, which make the numbers' deviation about
    `size` and their mean 0."""
    scale_at, minimum_at = HALVES[kind]
    blocks = random.integers(256, size=(count, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)

    def with_halves(scale: np.ndarray, minimum: np.ndarray) -> np.ndarray:
        blocks[:, scale_at : scale_at + 2] = half(scale)
        if minimum_at is not None:
            blocks[:, minimum_at : minimum_at + 2] = half(minimum)
        return blocks

    one, none = np.ones(count), np.zeros(count)
    ratio = 0.0
    if minimum_at is not None:
        scaled = gguf.dequantize(with_halves(one, none), kind)
        ratio = -float(scaled.mean() / gguf.dequantize(with_halves(none, one), kind).mean())
    deviation = float(gguf.dequantize(with_halves(one, ratio * one), kind).std())
    if minimum_at is not None:
        deviation *= 2  # as with Q4_K: the numbers of a part lean to one side together
    scale = size / deviation * random.uniform(0.7, 1.3, count)
    return with_halves(scale, ratio * scale)


def q4_k_blocks(count: int, size: float, random: np.random.Generator) -> np.ndarray:
    """[count, 144]: d, dmin, eight 6-bit scales and minima in 12 bytes, 256 4-bit numbers; all bits at random."""
    # A number is d * scale * n - dmin * minimum; at this ratio their mean is 0 and their deviation about 258 d. The
    # numbers of a sub-block lean to one side together, which would make attention too sharp at this size.
    d = size / 370 * random.uniform(0.7, 1.3, count)
    packed = random.integers(256, size=(count, 140), dtype=np.uint8)
    packed[0, :12] = 255  # the largest scales and minima
    return np.concatenate([half(d), half(7.5 * d), packed], axis=1)


def dequantise_q4_k(blocks: np.ndarray) -> np.ndarray:
    d, d_min = from_half(blocks[:, 0:2]), from_half(blocks[:, 2:4])
    packed, quants = blocks[:, 4:16], blocks[:, 16:144].reshape(-1, 4, 32)
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=1)
    numbers = np.stack([quants & 15, quants >> 4], axis=2).reshape(-1, 8, 32)
    scaled = (d * scales.astype(np.float32))[:, :, None] * numbers.astype(np.float32)
    return (scaled - (d_min * minima.astype(np.float32))[:, :, None]).reshape(-1, K_BLOCK)


def q6_k_blocks(count: int, size: float, random: np.random.Generator) -> np.ndarray:
    """[count, 210]: low 4 bits and high 2 bits of 256 numbers, 16 scales of 8 bits with sign, d; all at random."""
    d = size / 1366 * random.uniform(0.7, 1.3, count)
    packed = random.integers(256, size=(count, 208), dtype=np.uint8)
    packed[0, 192:194] = (128, 127)  # the scales -128 and 127
    return np.concatenate([packed, half(d)], axis=1)


def dequantise_q6_k(blocks: np.ndarray) -> np.ndarray:
    low = blocks[:, 0:128].reshape(-1, 2, 1, 64)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)
    d = from_half(blocks[:, 208:210])
    # Each half of the block: 64 low nibbles, then 64 high ones; the four pairs of bits of a byte are 32 numbers apart.
    nibbles = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    pairs = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    numbers = (nibbles | (pairs << 4)).astype(np.float32).reshape(-1, 16, 16) - 32
    return ((d * scales)[:, :, None] * numbers).reshape(-1, K_BLOCK)


MADE_UP = {Type.Q4_K: (q4_k_blocks, dequantise_q4_k), Type.Q6_K: (q6_k_blocks, dequantise_q6_k)}
