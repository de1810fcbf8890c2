// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <string>

#include "../llama/torch_files.hpp"
#include "edited_file.hpp"
#include "llama/formats/torch_file.hpp"

// No file makes the reader touch memory that is not there, whatever its archive and its program say.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid[] = {
        llama::test::make_torch_file({{"a", {"F32", {2, 3}, {1, 2, 3, 4, 5, 6}}}, {"b", {"BF16", {2}, {1, 2}}}}),
        llama::test::make_torch_file({{"a", {"F16", {3}, {1, 2, 3}}}}, true),
    };
    if (size == 0) return 0;
    const bool raw = data[0] % 4 == 0;
    const std::string content =
        raw ? llama::test::make_zip({{"x/data.pkl", std::string(reinterpret_cast<const char*>(data + 1), size - 1)},
                                     {"x/data/0", std::string(24, '\0')}})
            : fuzz::edited(valid[data[0] % 2], data + 1, size - 1);
    const fuzz::MemoryFile file(content);
    try {
        unsigned sum = 0;
        for (const auto& [name, tensor] : llama::read_torch_file(file.path()).tensors) {
            for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
        }
        volatile unsigned sink = sum;
        (void)sink;
    } catch (const llama::FileError&) {
    }
    return 0;
}
