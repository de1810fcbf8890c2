// SPDX-License-Identifier: MIT
#include "llama/formats/tensor_file.hpp"

#include "llama/io/in_quotes.hpp"
#include "llama/model/plain_weights.hpp"

namespace llama {

void TensorReference::fail(const std::string& reason) const {
    throw FileError(path, "tensor " + in_quotes(name) + " " + reason);
}

WeightType TensorReference::type() const {
    for (const WeightType type : {WeightType::f32, WeightType::f16, WeightType::bf16}) {
        if (tensor.type == format_of(type).name) return type;
    }
    fail("has the type " + in_quotes(tensor.type) + ", must be F32, F16 or BF16");
}

void TensorReference::check_shape(const std::vector<Index>& shape) const {
    if (tensor.shape != shape) {
        fail("has the shape " + describe_shape(tensor.shape) + ", must be " + describe_shape(shape));
    }
}

void TensorReference::check_finite() const {
    const Index count = static_cast<Index>(tensor.bytes.size()) / format_of(type()).bytes;
    const Index place = find_not_finite(tensor.bytes.data(), type(), count);
    if (place < count) fail(describe_not_finite(tensor.bytes.data(), type(), place));
}

std::string describe_shape(const std::vector<Index>& shape) {
    constexpr std::size_t most = 8;
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size() && i < most; ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() > most ? ", ...]" : "]");
}

Weights load_matrix(Checkpoint& checkpoint, const TensorReference& reference) {
    const StoredTensor& tensor = reference.tensor;
    return checkpoint.aligned({tensor.bytes.data(), reference.type(), tensor.shape.at(0), tensor.shape.at(1)});
}

const float* load_vector(Checkpoint& checkpoint, const TensorReference& reference) {
    const Index count = reference.tensor.shape.at(0);
    float* const floats = checkpoint.allocate_floats(count);
    to_floats(reference.tensor.bytes.data(), reference.type(), count, floats);
    return floats;
}

}  // namespace llama
