// SPDX-License-Identifier: MIT
#include "llama/cuda/device_llama.hpp"

/// What the program looks up in this module.
extern "C" const llama::DeviceModule freqkv_llama_device_module{&llama::check_device, &llama::open_device_llama};
