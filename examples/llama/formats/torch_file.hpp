// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/formats/tensor_file.hpp"

namespace llama {

/// Reads what torch.save (1.6 or later) makes of a dictionary of tensors and maps the tensors. Only what such a
/// dictionary of float, half and bfloat16 tensors needs of the pickle language is understood; anything else is a
/// FileError that names it, and nothing in the file is executed.
TensorFile read_torch_file(const std::string& path);

}  // namespace llama
