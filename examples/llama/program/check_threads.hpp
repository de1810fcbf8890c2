// SPDX-License-Identifier: MIT
#pragma once

namespace llama {

/// Throws std::runtime_error if as many threads cannot be made, 0: as OpenMP takes by itself. OpenMP would end the
/// program with a message of its own, in the middle of the work.
void check_threads(int threads);

}  // namespace llama
