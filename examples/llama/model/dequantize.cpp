// SPDX-License-Identifier: MIT
#include "llama/model/dequantize.hpp"

#include <cstring>

#include "freqkv/detail/lanes/convert.hpp"
#include "llama/model/with_weight_type.hpp"

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
    with_weight_type(weights.type, [&](auto type) {
        if constexpr (type == WeightType::f32) {
            std::memcpy(out, from, static_cast<std::size_t>(columns) * sizeof(float));
        } else if constexpr (is_plain(type)) {
            freqkv::detail::convert_row(reinterpret_cast<const Number<type>*>(from), columns, out);
        } else {
            unpack_blocks<type>(from, columns, out);
        }
    });
}

}  // namespace llama
