// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

#include "llama/io/visible_text.hpp"

namespace llama {

/// A name out of a foreign file for a message of one line: in quotes, visible(), cut off where it is longer than any
/// sensible name.
inline std::string in_quotes(std::string_view name) { return '"' + visible(name, 120) + '"'; }

}  // namespace llama
