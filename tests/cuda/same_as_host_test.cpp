// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "emulated_runtime.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "kernels.cuh"
#include "random_tokens.hpp"

// The cache of a device beside the host's, of which nvcc does not read the headers: on the emulated device.
namespace freqkv::cuda {
namespace {

constexpr Index heads = 2;
constexpr Index key_dim = 10;
constexpr Index value_dim = 6;
constexpr Index lengths[]{260, 35, 171};  // of three sequences, which meet boundaries together and alone

struct Case {
    std::string name;
    RopeOptions rope{.head_dim = key_dim};
    Index capacity = 40, sinks = 4, recent = 0;
};
std::vector<Case> cases() {
    const RopeOptions adjacent{.head_dim = key_dim, .base = 500, .pairing = RopePairing::adjacent};
    const RopeOptions split{.head_dim = key_dim, .base = 500, .pairing = RopePairing::half_split};
    RopeOptions partly = split;
    partly.rotated_dims = 6;
    RopeOptions none = split;
    none.rotated_dims = 0;
    return {{"adjacent", adjacent, 40, 4, 0},
            {"split", split, 40, 4, 7},
            {"partly", partly, 41, 0, 1},
            {"not rotated", none, 40, 4, 7},
            {"longer than what moves at once", split, 250, 3, 10},
            {"shortest", adjacent, 6, 1, 3}};
}

// All sequences in one cache on the device, `chunk` tokens of each at a time, and each in one of its own on the host.
template <class DevicePolicy, class HostPolicy>
void expect_the_same(const Case& c, const DevicePolicy& on_device, const HostPolicy& on_host, Index chunk) {
    constexpr bool moves_alone = !std::is_same_v<HostPolicy, LowPass<>>;
    SinkedKVCache<float, DevicePolicy> cache({.sequences = 3,
                                              .kv_heads = heads,
                                              .key_dim = key_dim,
                                              .value_dim = value_dim,
                                              .capacity = std::is_same_v<DevicePolicy, Full> ? 300 : c.capacity,
                                              .sinks = c.sinks,
                                              .recent = c.recent},
                                             c.rope.rotated_dims == 0 ? std::nullopt : std::optional<Rope>(c.rope),
                                             on_device);
    std::vector<freqkv::SinkedKVCache<float, HostPolicy>> expected;
    std::vector<naive::RandomTokens<float>> keys, values;
    for (unsigned s = 0; s < 3; ++s) {
        freqkv::CacheOptions options;
        options.kv_heads = heads;
        options.key_dim = key_dim;
        options.value_dim = value_dim;
        options.capacity = c.capacity;
        options.sinks = c.sinks;
        options.recent = c.recent;
        expected.emplace_back(options, freqkv::Rope<float>(c.rope, c.capacity), on_host);
        keys.emplace_back(heads, lengths[s], key_dim, 2 * s);
        values.emplace_back(heads, lengths[s], value_dim, 2 * s + 1);
        expected.back().append(std::as_const(keys.back()).view(), std::as_const(values.back()).view());
    }
    for (Index done = 0; done < 260; done += chunk) {
        std::vector<SequenceTokens> parts;
        std::vector<float> k, v;
        for (std::size_t s = 0; s < 3; ++s) {
            const Index count = std::min(chunk, lengths[s] - done);
            if (count <= 0) continue;
            parts.push_back({static_cast<Index>(s), count});
            const auto add = [&](std::vector<float>& to, const naive::RandomTokens<float>& from, Index dim) {
                const float* const data = from.view().data + done * heads * dim;
                to.insert(to.end(), data, data + count * heads * dim);
            };
            add(k, keys[s], key_dim);
            add(v, values[s], value_dim);
        }
        const DeviceArray<float> k_memory(k), v_memory(v);
        const Index tokens = static_cast<Index>(k.size()) / (heads * key_dim);
        cache.append(KVView<const float>::token_major(k_memory.data(), heads, tokens, key_dim),
                     KVView<const float>::token_major(v_memory.data(), heads, tokens, value_dim), parts);
    }
    for (Index s = 0; s < 3; ++s) {
        SCOPED_TRACE("sequence " + std::to_string(s));
        const freqkv::SinkedKVCache<float, HostPolicy>& want = expected[static_cast<std::size_t>(s)];
        const SavedSequence<float> have = cache.save(s);
        ASSERT_EQ(have.size, want.size());
        EXPECT_EQ(have.tokens_seen, want.tokens_seen());
        EXPECT_EQ(have.compressions, want.compressions());
        EXPECT_EQ(have.compressed_at, want.earliest_truncation());
        for (Index h = 0; h < heads; ++h) {
            for (Index e = 0; e < have.size; ++e) {
                for (Index d = 0; d < key_dim; ++d) {
                    ASSERT_NEAR(have.keys[static_cast<std::size_t>((h * have.size + e) * key_dim + d)],
                                want.keys(h)(e, d), 1e-5)
                        << "key " << e << " of head " << h;
                }
                for (Index d = 0; d < value_dim; ++d) {
                    ASSERT_NEAR(have.values[static_cast<std::size_t>((h * have.size + e) * value_dim + d)],
                                want.values(h)(e, d), moves_alone ? 0 : 1e-5)
                        << "value " << e << " of head " << h;
                }
            }
        }
    }
}

TEST(DeviceCacheIsTheHosts, UnderLocalWindow) {
    for (const Case& c : cases()) {
        for (const double ratio : {0.5, 0.55, 0.99}) {
            for (const Index chunk : {1, 45, 260}) {
                SCOPED_TRACE(c.name + ", ratio " + std::to_string(ratio) + ", chunk " + std::to_string(chunk));
                ASSERT_NO_FATAL_FAILURE(expect_the_same(c, LocalWindow(ratio), LocalWindow(ratio), chunk));
            }
        }
    }
}

TEST(DeviceCacheIsTheHosts, UnderLowPass) {
    for (const Case& c : cases()) {
        SCOPED_TRACE(c.name);
        ASSERT_NO_FATAL_FAILURE(expect_the_same(c, LowPass<>(0.6), LowPass<>(0.6), 45));
    }
}

TEST(DeviceCacheIsTheHosts, UnderFull) {
    for (const Case& c : cases()) {
        SCOPED_TRACE(c.name);
        ASSERT_NO_FATAL_FAILURE(expect_the_same(c, Full{}, Full{}, 45));
    }
}

// A schedule of one's own with the codec of LocalWindow: what is between its spans moves, too.
struct TwoSpans {
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        const Index third = (layout.entries - layout.sinks - layout.recent) / 3;
        return {{layout.sinks, third, 1 + compressions % 2},
                {layout.sinks + third + 2, third, compressions % 3 == 0 ? third - 1 : 2}};
    }
};
struct LatestOfTwo {
    TwoSpans schedule;
    SelectLatest codec;
};
TEST(DeviceCacheIsTheHosts, UnderAnyScheduleWithTheLatest) {
    for (const Case& c : cases()) {
        if (c.capacity < 40) continue;
        SCOPED_TRACE(c.name);
        ASSERT_NO_FATAL_FAILURE(expect_the_same(c, LatestOfTwo{}, LatestOfTwo{}, 45));
    }
}

// As many launches for three full sequences as for one.
TEST(DeviceCacheIsTheHosts, FullSequencesCloseUpInOneLaunch) {
    std::vector<long long> launches;
    for (const Index sequences : {1, 3}) {
        SinkedKVCache<float, LocalWindow> cache(
            {.sequences = sequences, .kv_heads = heads, .key_dim = key_dim, .capacity = 40}, Rope({.head_dim = 10}));
        const Index tokens = 40 * sequences;
        const DeviceArray<float> memory(std::vector<float>(static_cast<std::size_t>(tokens * heads * key_dim), 1.0F));
        std::vector<SequenceTokens> parts;
        std::vector<Index> all;
        for (Index s = 0; s < sequences; ++s) {
            parts.push_back({s, 40});
            all.push_back(s);
        }
        const KVView<const float> view = KVView<const float>::token_major(memory.data(), heads, tokens, key_dim);
        cache.append(view, view, parts);
        const long long before = emulated_device().launches;
        cache.prepare(all);
        launches.push_back(emulated_device().launches - before);
        for (const Index s : all) EXPECT_EQ(cache.size(s), 4 + 18);
    }
    EXPECT_THAT(launches, testing::ElementsAre(2, 2)) << "a move and a change of sizes";
}

}  // namespace
}  // namespace freqkv::cuda
