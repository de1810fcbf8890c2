// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace llama {

/// A UTF-8 text in Unicode's normalisation form C: letters and their accents composed. O(n log n), whatever the
/// text. Throws std::runtime_error if it is not UTF-8.
std::string to_nfc(std::string_view text);

}  // namespace llama
