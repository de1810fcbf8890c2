// SPDX-License-Identifier: MIT
#include <dlfcn.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "llama/program/with_device.hpp"

namespace llama {

const DeviceModule& device_module() {
#if defined(FREQKV_LLAMA_MODULE)
    static const auto* const module = [] {
        const std::string path =
            (std::filesystem::read_symlink("/proc/self/exe").parent_path() / FREQKV_LLAMA_MODULE).string();
        void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) throw std::runtime_error(std::string("--device cuda: ") + ::dlerror());
        const void* const found = ::dlsym(library, "freqkv_llama_device_module");
        if (found == nullptr) throw std::runtime_error(std::string("--device cuda: ") + ::dlerror());
        return static_cast<const DeviceModule*>(found);
    }();
    return *module;
#else
    throw std::runtime_error(
        "--device cuda: this program was built without CUDA, for which CMake has to find nvcc and cuBLAS");
#endif
}

}  // namespace llama
