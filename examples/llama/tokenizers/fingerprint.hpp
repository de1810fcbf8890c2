// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "llama/model/config.hpp"

namespace llama {

/// FNV-1a of token ids: a text that was changed is noticed.
inline std::uint64_t fingerprint(std::span<const Token> tokens, std::uint64_t hash = 0xcbf29ce484222325) {
    for (const Token token : tokens) hash = (hash ^ static_cast<std::uint32_t>(token)) * 0x100000001b3;
    return hash;
}

}  // namespace llama
