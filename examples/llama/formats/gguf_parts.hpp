// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/formats/gguf_file.hpp"

namespace llama {

/// A model's GGUF file; of one that was split, "NAME-00001-of-00003.gguf", with the tensors of the other parts, which
/// are found beside it by their names. All metadata but the parts' numbers are the first's.
///
/// Throws FileError for another part than the first, and for parts that are missing or do not belong together.
GgufFile open_gguf_parts(const std::string& path);

}  // namespace llama
