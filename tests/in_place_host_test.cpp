// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cstddef>
#include <numeric>
#include <thread>
#include <vector>

#include "foreign_cache.hpp"
#include "freqkv/in_place.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "naive.hpp"

// What is of the host alone: its caches, threads and policies.
namespace freqkv::in_place_test {
namespace {

using testing::ElementsAre;

TYPED_TEST_SUITE(InPlace, Stored);

// What SinkedKVCache does when it is full is this call on its entries.
template <class T, class P>
void expect_as_sinked_cache(const P& policy) {
    const Shape shape{.tokens = 44};
    const RopeOptions options = rope_options(shape, RopePairing::adjacent, 8);
    const Rope<Arithmetic<T>> rope(options, shape.tokens);
    SinkedKVCache<T, P> cache({.kv_heads = 2, .key_dim = 12, .value_dim = 10, .capacity = 44, .sinks = 4, .recent = 5},
                              rope, policy);
    ForeignCache<float> text(shape, Layout::token_major);
    fill(text, positions_from_zero(44), rope_options(shape, RopePairing::adjacent, 0), 5);
    cache.append(text.keys, text.values);
    for (const Layout layout : all_layouts) {
        SCOPED_TRACE(name_of(layout));
        auto own = cache;
        ForeignCache<T> foreign(shape, layout);
        for (Index h = 0; h < 2; ++h) {
            for (Index t = 0; t < 44; ++t) {
                for (Index d = 0; d < 12; ++d) foreign.keys.head(h)(t, d) = own.keys(h)(t, d);
                for (Index d = 0; d < 10; ++d) foreign.values.head(h)(t, d) = own.values(h)(t, d);
            }
        }
        InPlaceCompressor<T, P> compressor(policy, rope);
        const Index size = compressor.compress(foreign.keys, foreign.values, {.sinks = 4, .recent = 5});
        ASSERT_TRUE(own.prepare());
        ASSERT_EQ(size, own.size());
        for (Index h = 0; h < 2; ++h) {
            for (Index t = 0; t < size; ++t) {
                for (Index d = 0; d < 12; ++d) {
                    ASSERT_EQ(foreign.keys.head(h)(t, d), own.keys(h)(t, d)) << "key of entry " << t;
                }
                for (Index d = 0; d < 10; ++d) {
                    ASSERT_EQ(foreign.values.head(h)(t, d), own.values(h)(t, d)) << "value of entry " << t;
                }
            }
        }
    }
}

TYPED_TEST(InPlace, IsWhatSinkedKVCacheDoes) {
    expect_as_sinked_cache<TypeParam>(LowPass<>(0.4));
    expect_as_sinked_cache<TypeParam>(LocalWindow(0.4));
}

// Many workers, last task first.
struct BackwardsExecutor {
    Index concurrency() const { return 3; }
    template <class F>
    void for_each(Index count, F&& f) const {
        for (Index task = count - 1; task >= 0; --task) f(task, task % 3);
    }
};

// Every task on a thread of its own.
struct ThreadExecutor {
    Index concurrency() const { return 4; }
    template <class F>
    void for_each(Index count, F&& f) const {
        std::vector<std::thread> threads;
        for (Index worker = 0; worker < 4; ++worker) {
            threads.emplace_back([=, &f] {
                for (Index task = worker; task < count; task += 4) f(task, worker);
            });
        }
        for (std::thread& thread : threads) thread.join();
    }
};

template <class T, class P, class E>
void expect_as_serial(const P& policy, const E& executor) {
    const Shape shape{.heads = 5, .tokens = 60, .key_dim = 24, .value_dim = 22};
    const RopeOptions options = rope_options(shape, RopePairing::adjacent, 20);
    std::vector<Index> positions = positions_from_zero(60);
    for (Index& position : positions) position = 2 * position + 30;
    ForeignCache<T> serial(shape, Layout::token_major);
    ForeignCache<T> parallel(shape, Layout::token_major);
    fill(serial, positions, options, 9);
    fill(parallel, positions, options, 9);
    std::vector<double> energies[2];
    const auto observer = [](std::vector<double>& to) {
        return Observer{[](void* context, const CompressionReport& report) {
                            auto& list = *static_cast<std::vector<double>*>(context);
                            list.insert(list.end(), {report.keys.total, report.keys.discarded, report.values.total,
                                                     report.values.discarded});
                        },
                        &to};
    };
    InPlaceCompressor<T, P> compressor(policy, Rope<Arithmetic<T>>(options, 50));
    compressor.compress(serial.keys, serial.values, {.positions = positions, .observer = observer(energies[0])});
    compressor.compress(parallel.keys, parallel.values, {.positions = positions, .observer = observer(energies[1])},
                        executor);
    EXPECT_TRUE(parallel.holds(serial.bytes()));
    EXPECT_EQ(energies[0].size(), 5 * 4);
    EXPECT_EQ(energies[1], energies[0]);
}

TYPED_TEST(InPlace, DoesNotDependOnThreads) {
    expect_as_serial<TypeParam>(LowPass<>(), BackwardsExecutor{});
    expect_as_serial<TypeParam>(LocalWindow(), BackwardsExecutor{});
    expect_as_serial<TypeParam>(LowPass<>(), ThreadExecutor{});
    expect_as_serial<TypeParam>(LocalWindow(), ThreadExecutor{});
#if defined(_OPENMP)
    expect_as_serial<TypeParam>(LowPass<>(), OpenMPExecutor(2));
    expect_as_serial<TypeParam>(LocalWindow(), OpenMPExecutor(4));
#endif
}

// Keeps 3 + head entries of a span, the oldest ones, and lets them be chosen by position.
struct RaggedSelection {
    template <class T>
    Index select(const SpanReader<T>& span, Index, Index* chosen, std::byte*) const {
        const Index count = 3 + span.head();
        std::iota(chosen, chosen + count, Index{0});
        return count;
    }
};
struct RaggedWindow {
    WholeSpan schedule;
    RaggedSelection codec;
};

TEST(InPlaceCompressor, TellsTheSizeOfEachHead) {
    const Shape shape{.heads = 3, .tokens = 30};
    const RopeOptions options = rope_options(shape, RopePairing::adjacent, 12);
    ForeignCache<Eigen::half> cache(shape, Layout::interleaved);
    fill(cache, positions_from_zero(30), options, 4);
    ForeignCache<Eigen::half> before(shape, Layout::interleaved);
    fill(before, positions_from_zero(30), options, 4);
    InPlaceCompressor<Eigen::half, RaggedWindow> compressor({}, Rope<float>(options, 30));
    EXPECT_THAT(compressor.sizes(), ElementsAre());
    EXPECT_EQ(compressor.compress(cache.keys, cache.values, {.sinks = 4, .recent = 2}), 4 + 5 + 2) << "the largest";
    EXPECT_THAT(compressor.sizes(), ElementsAre(4 + 3 + 2, 4 + 4 + 2, 4 + 5 + 2));
    for (Index h = 0; h < 3; ++h) {
        const Index size = compressor.sizes()[static_cast<std::size_t>(h)];
        EXPECT_EQ(cache.row(cache.values, h, size - 1), before.row(before.values, h, 29)) << "the latest is the last";
        EXPECT_EQ(cache.row(cache.values, h, size - 3), before.row(before.values, h, 4 + 2 + h));
    }
}

// A policy sees the span's un-rotated keys and where they are stored.
struct PositionProbe {
    std::vector<Index>* positions = nullptr;
    std::vector<double>* keys = nullptr;

    template <class T>
    Index select(const SpanReader<T>& span, Index, Index* chosen, std::byte*) const {
        std::vector<Arithmetic<T>> key(static_cast<std::size_t>(span.key_dim()));
        std::vector<Arithmetic<T>> angles(key.size());
        for (Index i = 0; i < span.size(); ++i) {
            positions->push_back(span.position(i));
            span.load_key(i, key.data(), angles.data());
            keys->insert(keys->end(), key.begin(), key.end());
        }
        EXPECT_EQ(span.first(), 4);
        EXPECT_EQ(span.list_size(), 12);
        EXPECT_EQ(span.queries().tokens(), 0) << "a foreign cache holds no queries";
        chosen[0] = 0;
        return 1;
    }
};
struct ProbedWindow {
    WholeSpan schedule;
    PositionProbe codec;
};

TEST(InPlaceCompressor, ShowsThePolicyPositionsAndUnrotatedKeys) {
    const Shape shape{.heads = 1, .tokens = 12};
    const RopeOptions options = rope_options(shape, RopePairing::half_split, 8);
    const std::vector<Index> stored_at{0, 1, 2, 3, 90, 80, 70, 60, 1000, 6, 7, 8};
    ForeignCache<double> rotated(shape, Layout::every_second);
    fill(rotated, stored_at, options, 6);
    ForeignCache<double> plain(shape, Layout::every_second);
    fill(plain, std::vector<Index>(12, 0), options, 6);
    std::vector<Index> positions;
    std::vector<double> keys;
    InPlaceCompressor<double, ProbedWindow> compressor({{}, {&positions, &keys}}, Rope<double>(options, 12));
    compressor.compress(rotated.keys, rotated.values, {.sinks = 4, .recent = 3, .positions = stored_at});
    EXPECT_THAT(positions, ElementsAre(90, 80, 70, 60, 1000));
    for (Index i = 0; i < 5; ++i) {
        const naive::Row want = plain.row(plain.keys, 0, 4 + i);
        for (std::size_t d = 0; d < want.size(); ++d) {
            EXPECT_NEAR(keys[static_cast<std::size_t>(i) * want.size() + d], want[d], 1e-12) << "entry " << i;
        }
    }
}

// Drops as many entries as there have been compressions, plus one.
struct CountingSchedule {
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        const Index length = layout.entries - layout.sinks - layout.recent;
        return {{layout.sinks, length, length - 1 - compressions}};
    }
};
struct CountingWindow {
    CountingSchedule schedule;
    SelectLatest codec;
};

TEST(InPlaceCompressor, PassesOnCountAndLayer) {
    const Shape shape{.tokens = 30};
    ForeignCache<float> cache(shape, Layout::head_major);
    fill(cache, positions_from_zero(30), rope_options(shape, RopePairing::adjacent, 0), 4);
    std::vector<CompressionReport> reports;
    InPlaceOptions options{.sinks = 2, .recent = 1, .compressions = 5, .layer = 9};
    options.observer = {[](void* context, const CompressionReport& report) {
                            static_cast<std::vector<CompressionReport>*>(context)->push_back(report);
                        },
                        &reports};
    InPlaceCompressor<float, CountingWindow> compressor;
    EXPECT_EQ(compressor.compress(cache.keys, cache.values, options), 30 - 6);
    ASSERT_EQ(reports.size(), 2U);
    for (Index h = 0; h < 2; ++h) {
        const CompressionReport& report = reports[static_cast<std::size_t>(h)];
        EXPECT_EQ(report.layer, 9);
        EXPECT_EQ(report.head, h);
        EXPECT_EQ(report.compression, 5);
        EXPECT_EQ(report.begin, 2);
        EXPECT_EQ(report.length, 27);
        EXPECT_EQ(report.kept, 21);
        EXPECT_GT(report.keys.discarded, 0);
        EXPECT_LT(report.keys.discarded, report.keys.total);
    }
}

// One compressor for layers of different shape, one after the other, keeps what it needs and gives what a
// fresh one gives.
TEST(InPlaceCompressor, ServesCachesOfAnyShape) {
    InPlaceCompressor<Eigen::bfloat16> shared(LowPass<>(0.25));
    Index most_scratch = 0;
    for (const Index tokens : {20, 64, 33, 64}) {
        for (const Index heads : {1, 4}) {
            const Shape shape{.heads = heads, .tokens = tokens, .key_dim = 4 * heads, .value_dim = tokens / 4};
            ForeignCache<Eigen::bfloat16> cache(shape, Layout::token_major);
            ForeignCache<Eigen::bfloat16> other(shape, Layout::token_major);
            fill(cache, positions_from_zero(tokens), rope_options(shape, RopePairing::adjacent, 0), 4);
            fill(other, positions_from_zero(tokens), rope_options(shape, RopePairing::adjacent, 0), 4);
            const Index size = shared.compress(cache.keys, cache.values);
            EXPECT_EQ(size, compress_in_place(other.keys, other.values, {}, {}, LowPass<>(0.25)));
            EXPECT_EQ(static_cast<Index>(shared.sizes().size()), heads);
            EXPECT_TRUE(cache.holds(other.bytes()));
            EXPECT_GE(shared.scratch_bytes(), most_scratch) << "scratch stays";
            most_scratch = shared.scratch_bytes();
        }
    }
}

}  // namespace
}  // namespace freqkv::in_place_test
