// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <string>

#include "../llama/hugging_face_files.hpp"
#include "edited_file.hpp"
#include "llama/formats/safetensors.hpp"

// No file makes the reader touch memory that is not there: it is refused, or every byte of every tensor can be read.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid = [] {
        llama::test::TestTensors tensors;
        tensors["a"] = {"F32", {2, 3}, {1, 2, 3, 4, 5, 6}};
        tensors["b"] = {"BF16", {2}, {1, 2}};
        tensors["c"] = {"F16", {0, 5}, {}};
        return llama::test::make_safetensors(tensors);
    }();
    if (size == 0) return 0;
    const bool raw = data[0] % 4 == 0;
    const std::string content =
        raw ? llama::test::with_header(std::string(reinterpret_cast<const char*>(data + 1), size - 1), "12345678")
            : fuzz::edited(valid, data + 1, size - 1);
    const fuzz::MemoryFile file(content);
    try {
        unsigned sum = 0;
        for (const auto& [name, tensor] : llama::read_safetensors(file.path()).tensors) {
            for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
        }
        volatile unsigned sink = sum;
        (void)sink;
    } catch (const llama::FileError&) {
    }
    return 0;
}
