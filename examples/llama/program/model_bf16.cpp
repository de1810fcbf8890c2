// SPDX-License-Identifier: MIT
#include "llama/program/with_model.hpp"

namespace llama {

template class Llama<Eigen::bfloat16, freqkv::LowPass<>, ThreadExecutor>;
template class Llama<Eigen::bfloat16, freqkv::LocalWindow, ThreadExecutor>;
template class Llama<Eigen::bfloat16, freqkv::Full, ThreadExecutor>;

}  // namespace llama
