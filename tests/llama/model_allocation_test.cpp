// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "freqkv/executor.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/random_checkpoint.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/sampler.hpp"
#include "llama/temporary_directory.hpp"

namespace {
std::atomic<long> allocations{0};
}  // namespace

// Counts what the program asks of the heap. Not inlined: GCC would see through to malloc on one side only.
[[gnu::noinline]] void* operator new(std::size_t size) {
    ++allocations;
    if (void* const block = std::malloc(size > 0 ? size : 1)) return block;
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
    ++allocations;
    const auto step = static_cast<std::size_t>(alignment);
    if (void* const block = std::aligned_alloc(step, (size + step - 1) / step * step)) return block;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::align_val_t) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::size_t, std::align_val_t) noexcept { std::free(block); }

namespace llama {
namespace {

// What models other than Llama do: windows, caps, norms behind the blocks.
void complicate(Checkpoint& checkpoint) {
    Config& config = checkpoint.config;
    config.local_layers = {true, false, true};
    config.unrotated_layers = {false, false, true};
    config.local_window = 20;
    config.local_rope_base = 500;
    config.score_cap = 3;
    config.logit_cap = 4;
    config.embedding_scale = 1.5;
    config.activation = Activation::gelu_tanh;
    for (LayerWeights& layer : checkpoint.layers) {
        layer.attention_output_norm = layer.ffn_output_norm = layer.attention_norm;
        layer.q_norm = layer.k_norm = layer.ffn_norm;
        layer.o_bias = layer.ffn_norm;
    }
}

template <class P>
void expect_no_allocation(const P& policy, const SamplerOptions& sampling, bool complicated = false) {
    const test::TemporaryDirectory directory;
    const Config config{
        .dim = 48, .hidden = 100, .layers = 3, .heads = 6, .kv_heads = 2, .vocabulary = 512, .context = 64};
    Checkpoint checkpoint =
        open_checkpoint(directory.write("m.bin", random_checkpoint(config, CheckpointFormat::legacy, 1)));
    if (complicated) complicate(checkpoint);
    Llama<float, P, freqkv::SerialExecutor> model(checkpoint, {40, 4, 6}, policy, {});
    Sampler sampler(sampling, config.vocabulary);
    Token token = 1;
    long warm = 0;
    for (int i = 0; i < 500; ++i) {
        if (i == 100) warm = allocations;
        model.forward({&token, 1});
        token = sampler(model.logits());
    }
    EXPECT_GT(model.cache(1).compressions(), 5);
    if (complicated) {
        EXPECT_GT(model.local_cache(2).compressions(), 5);
        EXPECT_EQ(model.local_cache(2).capacity(), 40);
    }
    EXPECT_EQ(allocations - warm, 0);
    EXPECT_GT(warm, 0) << "nothing is counted";
}

TEST(ModelAllocation, NothingForATokenOnceItIsWarm) {
    for (const double temperature : {0.0, 1.0}) {
        expect_no_allocation(freqkv::LowPass<>(), {temperature, 40, 0.9, 1});
        expect_no_allocation(freqkv::LocalWindow(), {temperature, 0, 0.9, 1});
        expect_no_allocation(freqkv::LowPass<>(), {temperature, 40, 0.9, 1}, true);
    }
}

}  // namespace
}  // namespace llama
