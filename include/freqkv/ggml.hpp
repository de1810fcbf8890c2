// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/stored_element.hpp"

/// The types of quantised caches of llama.cpp, as ggml has them in memory; see BlockView.
namespace freqkv::ggml {

/// 32 elements of a row in 8.5 bits each: element j is scale * levels[j]. Written with scale = m / 127, of which m is
/// the largest magnitude, and levels rounded to nearest, halves away from 0 (ggml's quantize_row_q8_0_ref).
struct Q8_0 {  // NOLINT(readability-identifier-naming): ggml's name
    static constexpr Index elements = 32;

    Half scale;
    std::array<std::int8_t, elements> levels;
};

/// 32 elements of a row in 4.5 bits each: element j is scale * (code - 8), where its code is the low half of codes[j],
/// or for j >= 16 the high half of codes[j - 16]. Written with scale = m / -8, of which m is the element of the largest
/// magnitude, and codes rounded to nearest, 15 at most (ggml's quantize_row_q4_0_ref).
struct Q4_0 {  // NOLINT(readability-identifier-naming): ggml's name
    static constexpr Index elements = 32;

    Half scale;
    std::array<std::uint8_t, elements / 2> codes;
};
static_assert(sizeof(Q8_0) == 34 && sizeof(Q4_0) == 18);

/// One of them.
template <class T>
concept Block = std::same_as<T, Q8_0> || std::same_as<T, Q4_0>;

/// Blocks of how many elements of a key llama.cpp transforms before it quantises them (see HadamardView); 1 where it
/// does not, which is where head_dim is no multiple of 64. So it is since April 2026 (pull request 21038 of
/// ggml-org/llama.cpp), unless LLAMA_ATTN_ROT_DISABLE is set or layers differ in head_dim; it says `attn_rot_k` when it
/// makes the cache.
constexpr Index key_hadamard(Index head_dim) { return head_dim % 64 == 0 ? head_dim & -head_dim : 1; }
/// The same of values, which are in blocks of 64 whatever their length; `attn_rot_v`.
constexpr Index value_hadamard(Index head_dim) { return std::min<Index>(64, key_hadamard(head_dim)); }

}  // namespace freqkv::ggml
