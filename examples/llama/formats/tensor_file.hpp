// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/model/checkpoint.hpp"

namespace llama {

/// A tensor as a file holds it: row-major, without gaps, aligned to nothing. Does not own.
struct StoredTensor {
    std::string type;  ///< "F32", "F16", "BF16", or what else the file calls it
    std::vector<Index> shape;
    std::span<const std::byte> bytes;
};

/// A file of named tensors, whatever its format. For F32, F16 and BF16 the shapes are as large as the bytes.
struct TensorFile {
    std::string path;
    MappedFile map;  ///< what the tensors point into
    std::map<std::string, StoredTensor> tensors;
    std::map<std::string, std::string> metadata{};  ///< what a safetensors file says besides
};

/// A tensor and what messages call it.
struct TensorReference {
    const std::string& path;
    const std::string& name;
    const StoredTensor& tensor;

    /// Throws FileError "<path>: tensor <name> <reason>".
    [[noreturn]] void fail(const std::string& reason) const;
    /// Throws FileError unless the numbers are F32, F16 or BF16.
    WeightType type() const;
    /// Throws FileError unless the shape is the given one.
    void check_shape(const std::vector<Index>& shape) const;
    /// Throws FileError if the numbers are not F32, F16 or BF16, or any is infinite or none.
    void check_finite() const;
};

/// "[32000, 4096]"
std::string describe_shape(const std::vector<Index>& shape);

/// A tensor of two axes as weights of `checkpoint`: where it is aligned a view into the file, whose map the
/// checkpoint has to keep, and a copy otherwise.
Weights load_matrix(Checkpoint& checkpoint, const TensorReference& reference);

/// A tensor of one axis as floats that the checkpoint owns.
const float* load_vector(Checkpoint& checkpoint, const TensorReference& reference);

}  // namespace llama
