// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "llama/formats/tensor_file.hpp"

namespace llama {

/// The tensors of a dictionary that torch.save pickled (protocol 2), by their names: float, half and bfloat16, dense
/// and row-major. `program` is the pickle; storages are the files <folder>/data/<key> of `archive`, into which the
/// tensors point. Nothing is executed: instructions and functions that such a dictionary does not need are refused
/// by name. Throws FileError with `path`. Takes time in proportion to the program, and at most 40 MiB and twice
/// its size of memory.
std::map<std::string, StoredTensor> unpickle_tensors(
    const std::string& path, const std::map<std::string_view, std::span<const std::byte>>& archive,
    std::string_view folder, std::span<const std::byte> program);

}  // namespace llama
