// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "llama/model/checkpoint.hpp"
#include "llama/model/thread_executor.hpp"

namespace llama {

/// Changes if a model does: a hash of every byte of its weights, with their names, types and shapes, and of what its
/// configuration says of the arithmetic. All bytes, because a training may change few numbers, as the rows of an
/// embedding that its text has; reading them once costs less than the first chunk of tokens that the model is fed. No
/// protection against people who look for a collision. The same for any number of threads.
std::uint64_t fingerprint(const Checkpoint& checkpoint, const ThreadExecutor& executor);

}  // namespace llama
