// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "emulated_runtime.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/in_place.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/policy/window_attention.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "kernels.cuh"
#include "random_tokens.hpp"

// The cache of a device beside the host's, of which nvcc does not read the headers: on the emulated device.
namespace freqkv::cuda {
namespace {

constexpr Index heads = 2;
constexpr Index query_heads = 6;
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
    constexpr bool reads_queries = detail::query_window_of<HostPolicy>() > 0;
    constexpr bool transforms =
        requires { requires TransformCodec<std::remove_cvref_t<decltype(HostPolicy::codec)>, float>; };
    SinkedKVCache<float, DevicePolicy> cache({.sequences = 3,
                                              .kv_heads = heads,
                                              .query_heads = query_heads,
                                              .key_dim = key_dim,
                                              .value_dim = value_dim,
                                              .capacity = std::is_same_v<DevicePolicy, Full> ? 300 : c.capacity,
                                              .sinks = c.sinks,
                                              .recent = c.recent},
                                             c.rope.rotated_dims == 0 ? std::nullopt : std::optional<Rope>(c.rope),
                                             on_device);
    std::vector<freqkv::SinkedKVCache<float, HostPolicy>> expected;
    std::vector<naive::RandomTokens<float>> queries, keys, values;
    for (unsigned s = 0; s < 3; ++s) {
        freqkv::CacheOptions options;
        options.kv_heads = heads;
        options.query_heads = query_heads;
        options.key_dim = key_dim;
        options.value_dim = value_dim;
        options.capacity = c.capacity;
        options.sinks = c.sinks;
        options.recent = c.recent;
        expected.emplace_back(options, freqkv::Rope<float>(c.rope, c.capacity), on_host);
        keys.emplace_back(heads, lengths[s], key_dim, 2 * s);
        values.emplace_back(heads, lengths[s], value_dim, 2 * s + 1);
        queries.emplace_back(query_heads, lengths[s], key_dim, 100 + s);
        const auto k = std::as_const(keys.back()).view();
        const auto v = std::as_const(values.back()).view();
        if constexpr (reads_queries) {
            expected.back().append(std::as_const(queries.back()).view(), k, v);
        } else {
            expected.back().append(k, v);
        }
    }
    for (Index done = 0; done < 260; done += chunk) {
        std::vector<SequenceTokens> parts;
        std::vector<float> q, k, v;
        for (std::size_t s = 0; s < 3; ++s) {
            const Index count = std::min(chunk, lengths[s] - done);
            if (count <= 0) continue;
            parts.push_back({static_cast<Index>(s), count});
            const auto add = [&](std::vector<float>& to, const naive::RandomTokens<float>& from, Index size) {
                const float* const data = from.view().data + done * size;
                to.insert(to.end(), data, data + count * size);
            };
            add(q, queries[s], query_heads * key_dim);
            add(k, keys[s], heads * key_dim);
            add(v, values[s], heads * value_dim);
        }
        const DeviceArray<float> q_memory(q), k_memory(k), v_memory(v);
        const Index tokens = static_cast<Index>(k.size()) / (heads * key_dim);
        const auto q_view = KVView<const float>::token_major(q_memory.data(), query_heads, tokens, key_dim);
        const auto k_view = KVView<const float>::token_major(k_memory.data(), heads, tokens, key_dim);
        const auto v_view = KVView<const float>::token_major(v_memory.data(), heads, tokens, value_dim);
        if constexpr (reads_queries) {
            cache.append(q_view, k_view, v_view, parts);
        } else {
            cache.append(k_view, v_view, parts);
        }
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
                                want.values(h)(e, d), transforms ? 1e-5 : 0)
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

template <class P>
void expect_the_same_under(const P& policy) {
    for (const Case& c : cases()) {
        for (const Index chunk : {1, 45}) {
            SCOPED_TRACE(c.name + ", chunk " + std::to_string(chunk));
            ASSERT_NO_FATAL_FAILURE(expect_the_same(c, policy, policy, chunk));
        }
    }
}

TEST(DeviceCacheIsTheHosts, UnderScoresOfEntries) {
    for (const double ratio : {0.5, 0.6, 0.97}) {
        SCOPED_TRACE(ratio);
        ASSERT_NO_FATAL_FAILURE(expect_the_same_under(KeyNorm(ratio)));
        ASSERT_NO_FATAL_FAILURE(expect_the_same_under(ValueNorm(ratio)));
        ASSERT_NO_FATAL_FAILURE(expect_the_same_under(KeyDiff(ratio)));
    }
}

TEST(DeviceCacheIsTheHosts, UnderExactAndLowPass) {
    for (const double share : {0.0, 0.3, 0.5, 0.99}) {
        SCOPED_TRACE(share);
        ASSERT_NO_FATAL_FAILURE(expect_the_same_under(ExactAndLowPass<ShortKeys>(0.5, share)));
        ASSERT_NO_FATAL_FAILURE(expect_the_same_under(ExactAndLowPass<LongValues>(0.7, share)));
        ASSERT_NO_FATAL_FAILURE(expect_the_same_under(ExactAndLowPass<KeyDifference>(0.55, share)));
    }
}

TEST(DeviceCacheIsTheHosts, UnderScoresOfTheLatestQueries) {
    ASSERT_NO_FATAL_FAILURE(expect_the_same_under(Tova(0.5)));
    ASSERT_NO_FATAL_FAILURE(expect_the_same_under(SnapKV<7>(0.5, 1)));
    ASSERT_NO_FATAL_FAILURE(expect_the_same_under(SnapKV<7>(0.55, 5)));
    ASSERT_NO_FATAL_FAILURE(expect_the_same_under(SnapKV<32>(0.6, 3, Pooling::mean)));
    ASSERT_NO_FATAL_FAILURE(expect_the_same_under(ExactAndLowPass<WindowAttention<5>>(0.5, 0.4, {3})));
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
struct HighestOfTwo {
    TwoSpans schedule;
    SelectHighest<LongValues> codec;
};
struct ExactOfTwo {
    TwoSpans schedule;
    KeepSome<KeyDifference> codec{0.6};
};
TEST(DeviceCacheIsTheHosts, UnderAnySchedule) {
    for (const Case& c : cases()) {
        if (c.capacity < 40) continue;
        SCOPED_TRACE(c.name);
        ASSERT_NO_FATAL_FAILURE(expect_the_same(c, LatestOfTwo{}, LatestOfTwo{}, 45));
        ASSERT_NO_FATAL_FAILURE(expect_the_same(c, HighestOfTwo{}, HighestOfTwo{}, 45));
        ASSERT_NO_FATAL_FAILURE(expect_the_same(c, ExactOfTwo{}, ExactOfTwo{}, 45));
    }
}

// An engine's pages, whose keys are rotated at positions of its own.
template <class P>
void expect_the_same_in_place(const P& policy, Index tokens, Index sinks, Index recent) {
    constexpr Index page = 8;
    const RopeOptions options{.head_dim = key_dim, .rotated_dims = 6, .base = 500, .pairing = RopePairing::half_split};
    naive::RandomTokens<float> keys(heads, tokens, key_dim, 8);
    naive::RandomTokens<float> values(heads, tokens, value_dim, 9);
    std::vector<Index> positions;
    for (Index i = 0; i < tokens; ++i) positions.push_back(i % 4 == 0 ? i : 3 * i + 1);
    // [pages, heads, page, dim], in a backward order.
    const Index pages = (tokens + page - 1) / page;
    const auto place = [&](Index h, Index t, Index dim) {
        return (((pages - 1 - t / page) * heads + h) * page + t % page) * dim;
    };
    std::vector<float> key_pool(static_cast<std::size_t>(pages * heads * page * key_dim), -77);
    std::vector<float> value_pool(static_cast<std::size_t>(pages * heads * page * value_dim), -77);
    std::vector<std::int32_t> table;
    for (Index p = 0; p < pages; ++p) table.push_back(static_cast<std::int32_t>(pages - 1 - p));
    for (Index h = 0; h < heads; ++h) {
        for (Index t = 0; t < tokens; ++t) {
            for (Index d = 0; d < key_dim; ++d) {
                key_pool[static_cast<std::size_t>(place(h, t, key_dim) + d)] = keys.view().head(h)(t, d);
            }
            for (Index d = 0; d < value_dim; ++d) {
                value_pool[static_cast<std::size_t>(place(h, t, value_dim) + d)] = values.view().head(h)(t, d);
            }
        }
    }
    const DeviceArray<float> key_memory(key_pool), value_memory(value_pool);
    const DeviceArray<std::int32_t> table_memory(table);
    const DeviceArray<Index> position_memory(positions);
    const auto view = [&](const DeviceArray<float>& pool, Index dim) {
        PagedKVView<float> paged{pool.data(), table_memory.data(), pages, page, heads, tokens, dim};
        paged.page_stride = heads * page * dim;
        paged.head_stride = page * dim;
        paged.token_stride = dim;
        return paged;
    };
    InPlaceCompressor<float, P> on_device(policy, Rope(options));
    const ForeignList<PagedKVView<float>> list{view(key_memory, key_dim), view(value_memory, value_dim),
                                               position_memory.data()};
    const InPlaceResult result =
        on_device
            .compress(std::span<const ForeignList<PagedKVView<float>>>(&list, 1), {.sinks = sinks, .recent = recent})
            .front();
    freqkv::InPlaceCompressor<float, P> on_host(policy, freqkv::Rope<float>(options, tokens));
    freqkv::InPlaceOptions host_options;
    host_options.sinks = sinks;
    host_options.recent = recent;
    host_options.positions = positions;
    ASSERT_EQ(result.length, on_host.compress(keys.view(), values.view(), host_options));
    key_pool = key_memory.download();
    value_pool = value_memory.download();
    for (Index h = 0; h < heads; ++h) {
        for (Index t = 0; t < result.length; ++t) {
            for (Index d = 0; d < key_dim; ++d) {
                ASSERT_NEAR(key_pool[static_cast<std::size_t>(place(h, t, key_dim) + d)], keys.view().head(h)(t, d),
                            1e-5)
                    << "key " << t << " of head " << h;
            }
            for (Index d = 0; d < value_dim; ++d) {
                ASSERT_NEAR(value_pool[static_cast<std::size_t>(place(h, t, value_dim) + d)],
                            values.view().head(h)(t, d), 1e-5)
                    << "value " << t << " of head " << h;
            }
        }
    }
}

TEST(DeviceInPlaceIsTheHosts, ChoosingInPages) {
    for (const Index tokens : {7, 61, 300}) {
        SCOPED_TRACE(tokens);
        ASSERT_NO_FATAL_FAILURE(expect_the_same_in_place(KeyNorm(0.5), tokens, 2, 3));
        ASSERT_NO_FATAL_FAILURE(expect_the_same_in_place(ValueNorm(0.6), tokens, 0, 0));
        ASSERT_NO_FATAL_FAILURE(expect_the_same_in_place(KeyDiff(0.4), tokens, 1, 2));
        ASSERT_NO_FATAL_FAILURE(expect_the_same_in_place(ExactAndLowPass<KeyDifference>(0.6, 0.5), tokens, 2, 1));
    }
}

// How much is launched for one full sequence, and for three.
template <class P>
std::vector<long long> launches_of_compressions() {
    std::vector<long long> launches;
    for (const Index sequences : {1, 3}) {
        SinkedKVCache<float, P> cache({.sequences = sequences, .kv_heads = heads, .key_dim = key_dim, .capacity = 40},
                                      Rope({.head_dim = 10}));
        const Index tokens = 40 * sequences;
        const DeviceArray<float> memory(std::vector<float>(static_cast<std::size_t>(tokens * heads * key_dim), 1.0F));
        std::vector<SequenceTokens> parts;
        std::vector<Index> all;
        for (Index s = 0; s < sequences; ++s) {
            parts.push_back({s, 40});
            all.push_back(s);
        }
        const KVView<const float> view = KVView<const float>::token_major(memory.data(), heads, tokens, key_dim);
        cache.append(view, view, view, parts);
        const long long before = emulated_device().launches;
        cache.prepare(all);
        launches.push_back(emulated_device().launches - before);
        for (const Index s : all) EXPECT_EQ(cache.size(s), 4 + 18);
    }
    return launches;
}

TEST(DeviceCacheIsTheHosts, FullSequencesAreCompressedInOneLaunch) {
    using testing::ElementsAre;
    EXPECT_THAT(launches_of_compressions<LocalWindow>(), ElementsAre(2, 2)) << "a move and a change of sizes";
    EXPECT_THAT(launches_of_compressions<KeyNorm>(), ElementsAre(4, 4)) << "and scores and a choice";
    EXPECT_THAT(launches_of_compressions<KeyDiff>(), ElementsAre(6, 6)) << "scores in three passes";
}

}  // namespace
}  // namespace freqkv::cuda
