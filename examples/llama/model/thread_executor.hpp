// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/executor.hpp"
#include "llama/io/usage_error.hpp"

namespace llama {

#if defined(_OPENMP)
using ThreadExecutor = freqkv::OpenMPExecutor;
inline ThreadExecutor make_executor(int threads) { return ThreadExecutor(threads); }
#else
using ThreadExecutor = freqkv::SerialExecutor;
inline ThreadExecutor make_executor(int threads) {
    if (threads > 1) throw UsageError("--threads: this program was built without OpenMP, it has one thread");
    return {};
}
#endif

}  // namespace llama
