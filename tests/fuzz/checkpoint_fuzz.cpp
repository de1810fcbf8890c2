// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <string>

#include "checkpoint_sum.hpp"
#include "edited_file.hpp"
#include "llama/formats/llama2c_checkpoint.hpp"
#include "llama/formats/random_checkpoint.hpp"

// No file makes the reader touch memory that is not there: it is refused, or every weight can be read.
namespace {

llama::Config small() {
    llama::Config config;
    config.dim = 8;
    config.hidden = 12;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.vocabulary = 10;
    config.context = 16;
    return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid[] = {
        llama::random_checkpoint(small(), llama::CheckpointFormat::legacy, 1),
        llama::random_checkpoint(small(), llama::CheckpointFormat::version_1, 1),
    };
    if (size == 0) return 0;
    const fuzz::MemoryFile file(fuzz::edited(valid[data[0] % 2], data + 1, size - 1));
    try {
        volatile double sink = fuzz::sum(llama::read_llama2c(file.path()));
        static_cast<void>(sink);
    } catch (const llama::FileError&) {
    } catch (const freqkv::Error&) {
    }
    return 0;
}
