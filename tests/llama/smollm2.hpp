// SPDX-License-Identifier: MIT
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "llama/io/file.hpp"
#include "llama/program/known_models.hpp"

namespace llama::test {

/// The real model that `freqkv-llama fetch smollm2` leaves in the user's cache directory, or what the variable
/// FREQKV_SMOLLM2 names. A test that needs it is skipped where there is none:
///
///     const auto model = test::smollm2_path();
///     if (!model) GTEST_SKIP() << test::no_smollm2;
inline std::optional<std::string> smollm2_path() {
    if (const char* const given = std::getenv("FREQKV_SMOLLM2")) {
        if (file_exists(given)) return given;
    }
    const KnownModel& model = *find_known_model("smollm2");
    return is_fetched(model) ? std::optional(path_of(model)) : std::nullopt;
}

inline constexpr const char* no_smollm2 = "SmolLM2 is not here; freqkv-llama fetch smollm2 downloads it";

}  // namespace llama::test
