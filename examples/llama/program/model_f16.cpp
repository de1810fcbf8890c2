// SPDX-License-Identifier: MIT
#include "llama/program/with_model.hpp"

namespace llama {

template class Llama<Eigen::half, freqkv::LowPass<>, ThreadExecutor>;
template class Llama<Eigen::half, freqkv::LocalWindow, ThreadExecutor>;
template class Llama<Eigen::half, freqkv::Full, ThreadExecutor>;

}  // namespace llama
