// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace llama {

/// As what activations are multiplied with weights. Rounded: with quantised weights as 8-bit integers with a scale for
/// each 32 of them, or of many tokens as bfloat16 where the processor multiplies whole tiles of those; with BF16
/// weights, of many tokens, as bfloat16; else, and where the processor has no instructions for it, exact, which is in
/// float. Results then depend on the processor, and a little on how many tokens come at once.
enum class Arithmetic : std::uint8_t { exact, rounded };

}  // namespace llama
