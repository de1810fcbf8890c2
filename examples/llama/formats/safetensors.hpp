// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "llama/formats/tensor_file.hpp"

namespace llama {

/// Reads the table of a .safetensors file and maps its tensors. Throws FileError for whatever the official
/// implementation refuses: the tensors have to fill the file, without overlaps or holes.
TensorFile read_safetensors(const std::string& path);

/// A tensor on its way into a file.
struct TensorToWrite {
    std::string name;
    std::vector<Index> shape;
    Weights source;                 ///< as many numbers as the shape says, of a plain type
    WeightType type = source.type;  ///< in the file; numbers are rounded to the nearest, to even
};

/// Called every few megabytes with the bytes that are written and that will be; may throw to give up.
using WriteProgress = std::function<void(Index written, Index total)>;

/// Writes a .safetensors file, all or nothing, with the metadata that transformers asks for besides the given ones.
/// Throws FileError, also if a number is not finite, or too large for F16.
void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                       const WriteProgress& progress = {}, const std::map<std::string, std::string>& metadata = {});

}  // namespace llama
