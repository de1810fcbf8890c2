// SPDX-License-Identifier: MIT
#include "llama/model/dequantize.hpp"

#include <cstring>

#include <Eigen/Core>

#include "freqkv/detail/lanes/convert.hpp"
#include "llama/model/quantized.hpp"

namespace llama {

namespace {

template <WeightType type>
void unpack_blocks(const std::byte* from, Index columns, float* out) {
    constexpr WeightFormat format = format_of(type);
    for (Index i = 0; i < columns; i += format.block, from += format.bytes) Block<type>::unpack(from, out + i);
}

}  // namespace

void dequantize(const Weights& weights, Index row, Index first_column, Index columns, float* out) {
    const WeightFormat format = format_of(weights.type);
    const std::byte* const from = weights.row(row) + first_column / format.block * format.bytes;
    switch (weights.type) {
        case WeightType::f32:
            std::memcpy(out, from, static_cast<std::size_t>(columns) * sizeof(float));
            return;
        case WeightType::f16:
            return freqkv::detail::convert_row(reinterpret_cast<const Eigen::half*>(from), columns, out);
        case WeightType::bf16:
            return freqkv::detail::convert_row(reinterpret_cast<const Eigen::bfloat16*>(from), columns, out);
        case WeightType::q8_0:
            return unpack_blocks<WeightType::q8_0>(from, columns, out);
        case WeightType::q4_0:
            return unpack_blocks<WeightType::q4_0>(from, columns, out);
        case WeightType::q4_k:
            return unpack_blocks<WeightType::q4_k>(from, columns, out);
        case WeightType::q6_k:
            return unpack_blocks<WeightType::q6_k>(from, columns, out);
    }
}

}  // namespace llama
