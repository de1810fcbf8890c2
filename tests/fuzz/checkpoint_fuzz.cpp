// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <string>

#include "edited_file.hpp"
#include "llama/checkpoint.hpp"
#include "llama/random_checkpoint.hpp"

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

float sum(const llama::Weights& weights) {
    float total = 0;
    for (llama::Index i = 0; i < weights.rows * weights.columns; ++i) total += weights.data[i];
    return total;
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
        const llama::Checkpoint checkpoint(file.path());
        volatile float sink = sum(checkpoint.embedding()) + sum(checkpoint.classifier());
        for (llama::Index i = 0; i < checkpoint.config().dim; ++i) sink = sink + checkpoint.final_norm()[i];
        for (llama::Index l = 0; l < checkpoint.config().layers; ++l) {
            const llama::LayerWeights& layer = checkpoint.layer(l);
            for (const llama::Weights& w : {layer.wq, layer.wk, layer.wv, layer.wo, layer.gate, layer.down, layer.up}) {
                sink = sink + sum(w);
            }
        }
    } catch (const llama::FileError&) {
    } catch (const freqkv::Error&) {
    }
    return 0;
}
