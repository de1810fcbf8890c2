// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "emulated_runtime.hpp"
#include "freqkv/cuda/dct_plan.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "kernels.cuh"

// What the runtime refuses, which a device cannot be made to: on the emulated one.
namespace freqkv::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// A change of the emulated device that ends with the test.
class Changed {
public:
    Changed() : before_(emulated_device()) {}
    Changed(const Changed&) = delete;
    Changed& operator=(const Changed&) = delete;
    ~Changed() { emulated_device() = before_; }

private:
    EmulatedDevice before_;
};

const CacheOptions options{.sequences = 2, .kv_heads = 2, .key_dim = 4, .capacity = 20, .sinks = 2, .recent = 1};

TEST(NoDevice, IsSaidInPlainWords) {
    const std::vector<std::function<void()>> calls{
        [] { SinkedKVCache<float>{options}; },
        [] { SinkedKVCache<float, LocalWindow>{options}; },
        [] { SinkedKVCache<float, Full>{options}; },
        [] { InPlaceCompressor<__half>{}; },
        [] { DctPlan(8); },
        [] { Rope({.head_dim = 8}); },
        [] { DeviceArray<float>(8); },
    };
    struct Missing {
        cudaError_t status;
        const char* reason;
    };
    for (const auto& [status, reason] :
         {Missing{cudaErrorNoDevice, "no CUDA-capable device is detected (cudaErrorNoDevice)"},
          {cudaErrorInsufficientDriver,
           "CUDA driver version is insufficient for CUDA runtime version (cudaErrorInsufficientDriver)"}}) {
        const Changed changed;
        emulated_device().missing = status;
        for (std::size_t i = 0; i < calls.size(); ++i) {
            SCOPED_TRACE(i);
            EXPECT_THAT(calls[i], testing::Throws<CudaError>(testing::Property(&CudaError::status, status)));
            EXPECT_THAT(calls[i],
                        testing::ThrowsMessage<CudaError>(AllOf(StartsWith("freqkv: no CUDA device can be used: cuda"),
                                                                HasSubstr(std::string(" failed: ") + reason))));
            EXPECT_EQ(cudaGetLastError(), cudaSuccess);
        }
    }
    for (const std::function<void()>& call : calls) EXPECT_NO_THROW(call());
}

TEST(NoMemory, ForACacheIsOneErrorAndLeavesNothingBehind) {
    const auto expect_errors_up_to_enough = [](const auto& make) {
        long long allocations = 0;
        for (bool made = false; !made; ++allocations) {
            const Changed changed;
            emulated_device().allocations_left = allocations;
            try {
                make();
                made = true;
            } catch (const CudaError& error) {
                EXPECT_STREQ(error.what(), "freqkv: cudaMalloc failed: out of memory (cudaErrorMemoryAllocation)");
            }
            EXPECT_EQ(emulated_device().allocations_left, allocations) << "all has been given back";
        }
        return allocations - 1;
    };
    EXPECT_GT(expect_errors_up_to_enough([] { SinkedKVCache<float>{options}; }), 3) << "entries, sizes and plans";
    EXPECT_EQ(expect_errors_up_to_enough([] { SinkedKVCache<float, LocalWindow>{options}; }), 3);
    EXPECT_EQ(expect_errors_up_to_enough([] { SinkedKVCache<float, Full>{options}; }), 3);
}

// Needs another plan for each compression.
struct OneMoreEachTime {
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        const Index length = layout.entries - layout.sinks - layout.recent;
        return {{layout.sinks, length, 5 + compressions}};
    }
};
struct CountingPolicy {
    OneMoreEachTime schedule;
    FrequencyCodec<> codec;
};
using CountingCache = SinkedKVCache<float, CountingPolicy>;

// Tokens [first, first + count) of a text to sequence 0, and 3 to sequence 1.
void append(CountingCache& cache, Index first, Index count) {
    std::vector<float> rows;
    const Index width = options.kv_heads * options.key_dim;
    for (Index i = 0; i < count * width; ++i) rows.push_back(static_cast<float>((first * width + i) % 97));
    rows.resize(rows.size() + static_cast<std::size_t>(3 * width), 0.25F);
    const DeviceArray<float> memory(rows);
    const KVView<const float> view =
        KVView<const float>::token_major(memory.data(), options.kv_heads, count + 3, options.key_dim);
    cache.append(view, view, std::vector<SequenceTokens>{{0, count}, {1, 3}});
}

bool same(const SavedSequence<float>& a, const SavedSequence<float>& b) {
    return a.keys == b.keys && a.values == b.values && a.size == b.size && a.tokens_seen == b.tokens_seen &&
           a.compressions == b.compressions && a.compressed_at == b.compressed_at;
}

TEST(NoMemory, ForAPlanLeavesTheTokensBeforeTheBoundary) {
    const Rope rope({.head_dim = options.key_dim});
    CountingCache cache(options, rope);
    CountingCache untroubled(options, rope);
    append(untroubled, 0, 32);  // the first compression leaves 8 of 20
    const SavedSequence<float> at_boundary = untroubled.save(0);
    EXPECT_EQ(at_boundary.size, options.capacity);
    EXPECT_EQ(at_boundary.compressions, 1);

    append(cache, 0, 30);
    std::vector<float> rows(static_cast<std::size_t>(20 * options.kv_heads * options.key_dim));
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>((30 * 8 + i) % 97);
    const DeviceArray<float> memory(rows);
    const auto rest = [&](Index first) {
        const Index width = options.kv_heads * options.key_dim;
        const KVView<const float> view = KVView<const float>::token_major(
            memory.data() + (first - 30) * width, options.kv_heads, 50 - first, options.key_dim);
        cache.append(view, view, std::vector<SequenceTokens>{{0, 50 - first}});
    };
    {
        const Changed changed;
        emulated_device().allocations_left = 0;
        EXPECT_THROW(rest(30), CudaError);
        EXPECT_TRUE(same(cache.save(0), at_boundary));
        EXPECT_THROW(cache.prepare(std::vector<Index>{0, 1}), CudaError);
        EXPECT_TRUE(same(cache.save(0), at_boundary));
        EXPECT_EQ(cache.size(1), 3);
        std::int32_t on_device[2] = {};
        check("cudaMemcpy", cudaMemcpy(on_device, cache.device_sizes(), sizeof(on_device), cudaMemcpyDeviceToHost));
        EXPECT_THAT(on_device, testing::ElementsAre(20, 3));
    }
    rest(cache.tokens_seen(0));
    CountingCache at_once(options, rope);
    append(at_once, 0, 50);
    EXPECT_TRUE(same(cache.save(0), at_once.save(0)));
}

TEST(AnotherDevice, IsRefusedWhereACacheIsNot) {
    const std::optional<Rope> rope(RopeOptions{.head_dim = options.key_dim});
    CountingCache cache(options, rope);
    append(cache, 0, 20);
    const SavedSequence<float> before = cache.save(0);
    const Changed changed;
    emulated_device().current = 1;
    const std::string reason = " is 0, must be the current one, which is 1";
    const auto refuses = [&](const std::string& what) {
        return testing::ThrowsMessage<Error>("freqkv: device of the " + what + reason);
    };
    EXPECT_THAT([&] { append(cache, 20, 1); }, refuses("cache"));
    EXPECT_THAT([&] { cache.truncate(0, 10); }, refuses("cache"));
    EXPECT_THAT([&] { cache.clear(0); }, refuses("cache"));
    EXPECT_THAT([&] { cache.fork(0, 1); }, refuses("cache"));
    EXPECT_THAT([&] { cache.load(1, before); }, refuses("cache"));
    EXPECT_THAT([&] { (void)cache.save(0); }, refuses("cache"));
    EXPECT_THAT([&] { cache.prepare(std::vector<Index>{0}); }, refuses("compressor"));
    EXPECT_THAT([&] { (SinkedKVCache<float, Full>(options, rope)); }, refuses("rope"));
    EXPECT_THAT([&] { (SinkedKVCache<float, LocalWindow>(options, rope)); }, refuses("rope"));
    emulated_device().current = 0;
    EXPECT_TRUE(same(cache.save(0), before));
    EXPECT_EQ(cache.size(1), 3);
}

TEST(NoMemory, ForTheSecondOfTwoListsLeavesBothAsTheyWere) {
    InPlaceCompressor<float> compressor;
    compressor.make_plans(20, {.sinks = 0});
    std::vector<float> rows;
    for (int i = 0; i < 2 * (20 + 30); ++i) rows.push_back(static_cast<float>(i % 13));
    const DeviceArray<float> memory(rows);
    const auto view = [&](Index begin, Index tokens) {
        return KVView<float>::token_major(memory.data() + begin, 1, tokens, 1);
    };
    const ForeignList<KVView<float>> lists[]{{view(0, 20), view(20, 20)}, {view(40, 30), view(70, 30)}};
    const std::span<const ForeignList<KVView<float>>> both(lists);
    {
        const Changed changed;
        emulated_device().allocations_left = 0;
        EXPECT_THROW(compressor.compress(both, {.sinks = 0}), CudaError);
        EXPECT_EQ(memory.download(), rows);
    }
    EXPECT_THAT(compressor.compress(both, {.sinks = 0}),
                testing::ElementsAre(InPlaceResult{10, 0, 0}, InPlaceResult{15, 0, 0}));
    EXPECT_NE(memory.download(), rows);
}

}  // namespace
}  // namespace freqkv::cuda
