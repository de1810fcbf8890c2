// SPDX-License-Identifier: MIT
#include "llama/model/checkpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace llama {

Weights Checkpoint::aligned(Weights matrix) {
    const WeightFormat layout = format_of(matrix.type);
    const auto element = static_cast<std::uintptr_t>(layout.bytes);
    if (layout.block > 1 || reinterpret_cast<std::uintptr_t>(matrix.data) % element == 0) return matrix;
    std::byte* const copy = allocate(matrix.bytes());
    if (matrix.bytes() > 0) std::memcpy(copy, matrix.data, static_cast<std::size_t>(matrix.bytes()));
    matrix.data = copy;
    return matrix;
}

}  // namespace llama
