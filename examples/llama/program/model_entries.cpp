// SPDX-License-Identifier: MIT
#include "llama/program/model_entries.hpp"

#include "freqkv/policy/full.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/thread_executor.hpp"

namespace llama {

namespace {

class GrowingEntries final : public ModelEntries {
public:
    GrowingEntries(const Checkpoint& checkpoint, Index tokens, int threads)
        : llama_(checkpoint, CacheSizes{.capacity = tokens, .sinks = 0}, freqkv::Full{}, make_executor(threads)) {}

    void clear() override { llama_.clear(); }
    void forward(std::span<const Token> tokens) override { llama_.forward(tokens); }
    freqkv::MatrixView<const float> keys(Index layer, Index head) const override {
        return llama_.cache(layer).keys(head);
    }
    freqkv::MatrixView<const float> values(Index layer, Index head) const override {
        return llama_.cache(layer).values(head);
    }

private:
    Llama<float, freqkv::Full, ThreadExecutor> llama_;
};

}  // namespace

std::unique_ptr<ModelEntries> open_model_entries(const Checkpoint& checkpoint, Index tokens, int threads) {
    return std::make_unique<GrowingEntries>(checkpoint, tokens, threads);
}

}  // namespace llama
