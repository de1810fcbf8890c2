// SPDX-License-Identifier: MIT
#include "llama/program/with_model.hpp"

namespace llama {

template class Llama<float, freqkv::LowPass<>, ThreadExecutor>;
template class Llama<float, freqkv::LocalWindow, ThreadExecutor>;
template class Llama<float, freqkv::Full, ThreadExecutor>;

}  // namespace llama
