// SPDX-License-Identifier: MIT
#include "llama/cuda/weight_types.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama/model/dequantize.hpp"
#include "llama/model/plain_weights.hpp"

namespace llama {

namespace {

WeightType plain(WeightType type) {
    const bool is_plain = type == WeightType::f32 || type == WeightType::f16 || type == WeightType::bf16;
    return is_plain ? type : WeightType::f16;
}

}  // namespace

WeightType device_type(std::initializer_list<const Weights*> parts) {
    WeightType type = plain((*parts.begin())->type);
    for (const Weights* const part : parts) {
        if (plain(part->type) != type) type = WeightType::f32;
    }
    return type;
}

WeightType device_type(const Checkpoint& checkpoint) {
    const LayerWeights& layer = checkpoint.layers.front();
    return device_type({&layer.gate, &layer.up});
}

Index device_bytes(const Checkpoint& checkpoint) {
    const auto matrix = [](std::initializer_list<const Weights*> parts) {
        Index rows = 0;
        for (const Weights* const part : parts) rows += part->rows;
        return rows * (*parts.begin())->columns * format_of(device_type(parts)).bytes;
    };
    Index bytes = matrix({&checkpoint.embedding});
    if (checkpoint.classifier.data != checkpoint.embedding.data) bytes += matrix({&checkpoint.classifier});
    for (const LayerWeights& layer : checkpoint.layers) {
        bytes += matrix({&layer.wq, &layer.wk, &layer.wv}) + matrix({&layer.wo}) + matrix({&layer.gate, &layer.up}) +
                 matrix({&layer.down});
    }
    return bytes;
}

void convert_rows(const Weights& weights, Index first, Index count, WeightType type, std::byte* out) {
    std::vector<float> row(static_cast<std::size_t>(weights.columns));
    const Index row_bytes = weights.columns * format_of(type).bytes;
    for (Index r = first; r < first + count; ++r, out += row_bytes) {
        dequantize(weights, r, 0, weights.columns, row.data());
        constexpr float largest_half = 65504;
        const bool fits =
            std::all_of(row.begin(), row.end(), [](float value) { return !(std::abs(value) > largest_half); });
        if (type == WeightType::f16 && !fits) {
            throw std::runtime_error(std::string("a ") + format_of(weights.type).name +
                                     " weight is above 65504, which is more than F16 holds, the type of quantised "
                                     "weights on a GPU");
        }
        from_floats(row.data(), type, weights.columns, out);
    }
}

}  // namespace llama
