// SPDX-License-Identifier: MIT
#pragma once

#include "llama/formats/gguf_file.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// What a GGUF file says of the model in it, by its keys and by the tensors that are there. The lists of rotary
/// divisors, which are tensors, are left out. Throws FileError for an architecture, or a setting of it, that is not
/// supported.
Config read_gguf_config(const GgufFile& file);

/// The token that a key names, or -1. Throws FileError if it is not below `vocabulary`.
Token find_gguf_token(const GgufFile& file, const std::string& key, Index vocabulary);

/// What GgufFile::find_... returns of a key that must be there.
template <class Value>
Value require_key(const GgufFile& file, const std::string& key, std::optional<Value> value) {
    if (!value) file.fail(key + " is missing");
    return *std::move(value);
}

}  // namespace llama
