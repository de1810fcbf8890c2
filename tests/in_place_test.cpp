// SPDX-License-Identifier: MIT
#include "freqkv/in_place.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "naive.hpp"
#if defined(FREQKV_TEST_DEVICE)
#include "cuda/device_in_place_compressor.hpp"
#endif

namespace freqkv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// What is tested: the call on the host or, in tests/cuda, on a device, which knows no double and no selections.
#if defined(FREQKV_TEST_DEVICE)
template <class T, class P = LowPass<>>
using Compressor = DeviceInPlaceCompressor<T, P>;
template <class T>
using RopeOf = DeviceRope;
using Stored = testing::Types<float, Eigen::half, Eigen::bfloat16>;
constexpr bool on_device = true;
#else
template <class T, class P = LowPass<>>
using Compressor = InPlaceCompressor<T, P>;
template <class T>
using RopeOf = Rope<Arithmetic<T>>;
using Stored = testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
constexpr bool on_device = false;
#endif

// How engines lay out one layer; every layout leaves room that does not belong to the view.
enum class Layout {
    head_major,    // [heads, room for tokens, dim], as llama.cpp's siblings and ONNX Runtime
    token_major,   // [tokens, heads, dim] and padding behind each token
    transposed,    // [heads, dim, room for tokens], as llama.cpp keeps values
    interleaved,   // [tokens, heads, {key, value}, dim], as gemma.cpp
    every_second,  // no axis is dense
    backwards,     // the newest token first
};
constexpr std::array all_layouts{Layout::head_major,  Layout::token_major,  Layout::transposed,
                                 Layout::interleaved, Layout::every_second, Layout::backwards};

std::string name_of(Layout layout) {
    constexpr std::array names{"head-major", "token-major", "transposed", "interleaved", "every second", "backwards"};
    return names[static_cast<std::size_t>(layout)];
}

struct Shape {
    Index heads = 2;
    Index tokens = 0;
    Index key_dim = 12;
    Index value_dim = 10;
};

// One layer's cache in another engine's memory: keys and values as views into one buffer, the rest of which
// is filled with a pattern that must survive.
template <class T>
class ForeignCache {
public:
    ForeignCache(const Shape& shape, Layout layout) {
        const Index keys_size = 2 * shape.heads * (shape.tokens + 5) * (shape.key_dim + 3);
        const Index values_size = 2 * shape.heads * (shape.tokens + 5) * (shape.value_dim + 3);
        memory_.assign(static_cast<std::size_t>(keys_size + values_size), pattern());
        keys = view(shape, layout, shape.key_dim, 0);
        values = view(shape, layout, shape.value_dim, layout == Layout::interleaved ? shape.key_dim : keys_size);
        inside_.assign(memory_.size(), 0);
        for (const KVView<T>& x : {keys, values}) {
            for_each(x, [&](T& element) { ++inside_[static_cast<std::size_t>(&element - memory_.data())]; });
        }
        EXPECT_EQ(*std::max_element(inside_.begin(), inside_.end()), 1) << "the test's own layout is wrong";
    }
    ForeignCache(const ForeignCache&) = delete;
    ForeignCache& operator=(const ForeignCache&) = delete;

    KVView<T> keys, values;

    static naive::Row row(const KVView<T>& x, Index head, Index token) {
        naive::Row result;
        for (Index d = 0; d < x.head_dim; ++d) result.push_back(static_cast<double>(x.head(head)(token, d)));
        return result;
    }
    static void set_row(const KVView<T>& x, Index head, Index token, const naive::Row& row) {
        for (Index d = 0; d < x.head_dim; ++d) {
            x.head(head)(token, d) = static_cast<T>(static_cast<Arithmetic<T>>(row[static_cast<std::size_t>(d)]));
        }
    }

    std::vector<T> bytes() const { return memory_; }
    bool holds(const std::vector<T>& bytes) const {
        return std::memcmp(memory_.data(), bytes.data(), bytes.size() * sizeof(T)) == 0;
    }
    void expect_rest_untouched() const {
        const T wanted = pattern();
        for (std::size_t i = 0; i < memory_.size(); ++i) {
            if (inside_[i] == 0) {
                ASSERT_EQ(std::memcmp(&memory_[i], &wanted, sizeof(T)), 0) << "element " << i << " is not of the views";
            }
        }
    }

private:
    static T pattern() { return static_cast<T>(-77.5F); }

    KVView<T> view(const Shape& s, Layout layout, Index dim, Index begin) {
        T* const data = memory_.data() + begin;
        const Index room = s.tokens + 5;
        const Index both = s.key_dim + s.value_dim;
        switch (layout) {
            case Layout::head_major:
                return {data, s.heads, s.tokens, dim, room * dim, dim, 1};
            case Layout::token_major:
                return {data, s.heads, s.tokens, dim, dim, s.heads * dim + 3, 1};
            case Layout::transposed:
                return {data, s.heads, s.tokens, dim, dim * room, 1, room};
            case Layout::interleaved:
                return {data, s.heads, s.tokens, dim, both, s.heads * both, 1};
            case Layout::every_second:
                return {data + 1, s.heads, s.tokens, dim, 2 * room * dim, 2 * dim, 2};
            case Layout::backwards:
                return {data + (s.tokens - 1) * dim, s.heads, s.tokens, dim, room * dim, -dim, 1};
        }
        return {};
    }

    template <class F>
    static void for_each(const KVView<T>& x, F&& f) {
        for (Index h = 0; h < x.heads; ++h) {
            for (Index t = 0; t < x.tokens; ++t) {
                for (Index d = 0; d < x.head_dim; ++d) f(x.head(h)(t, d));
            }
        }
    }

    std::vector<T> memory_;
    std::vector<int> inside_;
};

RopeOptions rope_options(const Shape& shape, RopePairing pairing, Index rotated_dims) {
    return {.head_dim = shape.key_dim,
            .rotated_dims = rotated_dims,
            .base = 5000,
            .pairing = pairing,
            .frequency_factors = std::vector<double>(static_cast<std::size_t>(rotated_dims / 2), 1.25)};
}

naive::Rotary naive_rotary(const RopeOptions& options) {
    return {static_cast<std::size_t>(options.rotated_dims), options.base, options.pairing == RopePairing::adjacent,
            options.linear_scaling, options.frequency_factors};
}

// A key or value: slow, as they are, and some noise.
naive::Row random_row(naive::Random& next, Index dim, Index token) {
    naive::Row row;
    for (Index d = 0; d < dim; ++d) {
        row.push_back(std::sin(0.05 * static_cast<double>(token * (d + 1))) + 0.3 * next());
    }
    return row;
}

template <class T>
double largest_of(const KVView<T>& x, Index tokens) {
    double largest = 0;
    for (Index h = 0; h < x.heads; ++h) {
        for (Index t = 0; t < tokens; ++t) {
            for (const double value : ForeignCache<T>::row(x, h, t)) largest = std::max(largest, std::abs(value));
        }
    }
    return largest;
}

// Fills both caches with random entries at the given positions: `stored` with rotated keys.
template <class T>
void fill(ForeignCache<T>& stored, const std::vector<Index>& positions, const RopeOptions& rope, std::uint64_t seed) {
    naive::Random next(seed);
    for (Index h = 0; h < stored.keys.heads; ++h) {
        for (Index t = 0; t < stored.keys.tokens; ++t) {
            const naive::Row key = random_row(next, stored.keys.head_dim, t);
            const Index position = positions[static_cast<std::size_t>(t)];
            stored.set_row(stored.keys, h, t, naive::rotated(key, position, naive_rotary(rope)));
            stored.set_row(stored.values, h, t, random_row(next, stored.values.head_dim, t));
        }
    }
}

std::vector<Index> positions_from_zero(Index tokens) {
    std::vector<Index> positions(static_cast<std::size_t>(tokens));
    std::iota(positions.begin(), positions.end(), 0);
    return positions;
}

// ---------------------------------------------------------------------------------------------------
// Against the same without rotation, in 32 bits.

// Of the largest key: what stored elements are rounded by, at each of some compressions. bfloat16 has
// three bits less than half.
template <class T>
constexpr double tolerance = 2e-3;
template <>
constexpr double tolerance<Eigen::bfloat16> = 16e-3;
template <>
constexpr double tolerance<float> = 2e-6;
template <>
constexpr double tolerance<double> = 1e-6;  // the reference is in float

template <class T>
class InPlace : public testing::Test {};
TYPED_TEST_SUITE(InPlace, Stored);

// A foreign cache of post-RoPE keys is filled, compressed, filled up and compressed again; beside it the same
// entries before RoPE in 32-bit floats. Then entry i of the one must be entry i of the other rotated at i.
template <class T, class P>
void expect_as_before_rope(const P& policy, const RopeOptions& rope_options, Layout layout, Index recent,
                           Index (*position_of)(Index), bool tabulated) {
    const Shape shape{.tokens = 40};
    const Index sinks = 3;
    ForeignCache<T> stored(shape, layout);
    ForeignCache<float> plain(shape, Layout::head_major);
    Compressor<T, P> compressor(policy, RopeOf<T>(rope_options, tabulated ? 20 : 0));
    InPlaceCompressor<float, P> reference(policy);
    naive::Random next(11);
    std::vector<Index> positions;
    Index size = 0;
    for (Index compression = 0; compression < 3; ++compression) {
        SCOPED_TRACE("compression " + std::to_string(compression));
        for (Index t = size; t < shape.tokens; ++t) {
            positions.push_back(position_of(t));
            for (Index h = 0; h < shape.heads; ++h) {
                const naive::Row key = random_row(next, shape.key_dim, t);
                const naive::Row value = random_row(next, shape.value_dim, t + 7);
                stored.set_row(stored.keys, h, t, naive::rotated(key, positions.back(), naive_rotary(rope_options)));
                stored.set_row(stored.values, h, t, value);
                plain.set_row(plain.keys, h, t, key);
                plain.set_row(plain.values, h, t, value);
            }
        }
        const double largest_key = largest_of(plain.keys, shape.tokens);
        const double largest_value = largest_of(plain.values, shape.tokens);
        size =
            compressor.compress(stored.keys, stored.values, {.sinks = sinks, .recent = recent, .positions = positions});
        ASSERT_EQ(size, reference.compress(plain.keys, plain.values, {.sinks = sinks, .recent = recent}));
        ASSERT_EQ(size, sinks + (shape.tokens - sinks - recent) / 2 + recent);
        ASSERT_THAT(compressor.sizes(), ElementsAre(size, size));
        for (Index h = 0; h < shape.heads; ++h) {
            for (Index t = 0; t < size; ++t) {
                const naive::Row key = stored.row(stored.keys, h, t);
                const naive::Row want = naive::rotated(plain.row(plain.keys, h, t), t, naive_rotary(rope_options));
                for (std::size_t d = 0; d < key.size(); ++d) {
                    ASSERT_NEAR(key[d], want[d], tolerance<T> * largest_key)
                        << "key of head " << h << ", entry " << t << ", dimension " << d;
                }
                const naive::Row value = stored.row(stored.values, h, t);
                const naive::Row want_value = plain.row(plain.values, h, t);
                for (std::size_t d = 0; d < value.size(); ++d) {
                    ASSERT_NEAR(value[d], want_value[d], tolerance<T> * largest_value)
                        << "value of head " << h << ", entry " << t << ", dimension " << d;
                }
            }
        }
        ASSERT_NO_FATAL_FAILURE(stored.expect_rest_untouched());
        positions = positions_from_zero(size);
    }
}

const struct {
    const char* name;
    Index (*of)(Index);
} swept_positions[]{
    {"from 0", [](Index t) { return t; }},
    {"with gaps", [](Index t) { return 3 * t + t / 5; }},
    {"far beyond any table", [](Index t) { return 1000000 + 17 * t; }},
    {"in no order", [](Index t) { return t * 37 % 101; }},
};

TYPED_TEST(InPlace, AgreesWithCompressionBeforeRope) {
    using T = TypeParam;
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        for (const Index rotated_dims : {12, 6, 0}) {
            for (const Layout layout : all_layouts) {
                for (const Index recent : {0, 6}) {
                    for (const auto& positions : swept_positions) {
                        SCOPED_TRACE(std::string(pairing == RopePairing::adjacent ? "adjacent" : "half_split") + ", " +
                                     std::to_string(rotated_dims) + " rotated dimensions, " + name_of(layout) + ", " +
                                     std::to_string(recent) + " recent, positions " + positions.name);
                        const RopeOptions rope = rope_options({}, pairing, rotated_dims);
                        ASSERT_NO_FATAL_FAILURE(
                            expect_as_before_rope<T>(LowPass<>(0.5), rope, layout, recent, positions.of, true));
                        if constexpr (!on_device) {
                            ASSERT_NO_FATAL_FAILURE(
                                expect_as_before_rope<T>(LocalWindow(0.5), rope, layout, recent, positions.of, false));
                        }
                    }
                }
            }
        }
    }
}

// The reference itself: on pre-RoPE keys the call is the formula of the paper.
TEST(InPlaceLowPass, IsTheFormulaOnKeysBeforeRope) {
    const Shape shape{.heads = 3, .tokens = 37};
    for (const Layout layout : all_layouts) {
        ForeignCache<float> cache(shape, layout);
        fill(cache, positions_from_zero(37), rope_options(shape, RopePairing::adjacent, 0), 1);
        std::vector<naive::Rows> keys(3), values(3);
        for (Index h = 0; h < 3; ++h) {
            for (Index t = 0; t < 37; ++t) {
                keys[static_cast<std::size_t>(h)].push_back(cache.row(cache.keys, h, t));
                values[static_cast<std::size_t>(h)].push_back(cache.row(cache.values, h, t));
            }
        }
        EXPECT_EQ(Compressor<float>(LowPass<>(0.3)).compress(cache.keys, cache.values, {.sinks = 2, .recent = 4}),
                  2 + 9 + 4);
        for (Index h = 0; h < 3; ++h) {
            for (const auto& [before, after] : {std::pair{&keys, &cache.keys}, std::pair{&values, &cache.values}}) {
                const naive::Rows& rows = (*before)[static_cast<std::size_t>(h)];
                naive::Rows want(rows.begin(), rows.begin() + 2);
                for (naive::Row& row : naive::low_passed(naive::Rows(rows.begin() + 2, rows.end() - 4), 9)) {
                    want.push_back(std::move(row));
                }
                want.insert(want.end(), rows.end() - 4, rows.end());
                for (Index t = 0; t < 15; ++t) {
                    const naive::Row got = cache.row(*after, h, t);
                    ASSERT_THAT(got, testing::Pointwise(testing::DoubleNear(1e-6), want[static_cast<std::size_t>(t)]))
                        << name_of(layout) << ", head " << h << ", entry " << t;
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// To the last bit.

TYPED_TEST(InPlace, LeavesEntriesThatStayInPlaceBitForBit) {
    using T = TypeParam;
    const Shape shape{.tokens = 40};
    const Index sinks = 4;
    const Index recent = 6;
    const Index size = 4 + 15 + 6;
    // The recent part is already stored at where it will be, the sinks at their places but for the second.
    std::vector<Index> positions = positions_from_zero(40);
    for (Index t = 34; t < 40; ++t) positions[static_cast<std::size_t>(t)] = t - (40 - size);
    positions[1] = 500;
    for (const Layout layout : all_layouts) {
        SCOPED_TRACE(name_of(layout));
        const RopeOptions rope = rope_options(shape, RopePairing::half_split, 8);
        ForeignCache<T> cache(shape, layout);
        ForeignCache<T> before(shape, layout);
        fill(cache, positions, rope, 3);
        fill(before, positions, rope, 3);
        Compressor<T> compressor(LowPass<>(0.5), RopeOf<T>(rope, 40));
        ASSERT_EQ(
            compressor.compress(cache.keys, cache.values, {.sinks = sinks, .recent = recent, .positions = positions}),
            size);
        for (Index h = 0; h < shape.heads; ++h) {
            for (Index t = 0; t < size; ++t) {
                if (t >= sinks && t < size - recent) continue;
                const Index from = t < sinks ? t : t + 40 - size;
                EXPECT_EQ(cache.row(cache.values, h, t), before.row(before.values, h, from)) << "value of entry " << t;
                if (t == 1) {
                    EXPECT_NE(cache.row(cache.keys, h, t), before.row(before.keys, h, from)) << "it is turned";
                } else {
                    EXPECT_EQ(cache.row(cache.keys, h, t), before.row(before.keys, h, from)) << "key of entry " << t;
                }
            }
        }
    }
}

// What follows is of the host alone: caches and policies of its own, threads, its memory, its messages.
#if !defined(FREQKV_TEST_DEVICE)

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

// ---------------------------------------------------------------------------------------------------
// What is handed to the policy and back.

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

// ---------------------------------------------------------------------------------------------------
// Errors.

struct BrokenSelection {
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        if (span.head() == 1) throw std::runtime_error("no choice");
        return SelectLatest{}.select(span, keep, chosen, scratch);
    }
};
struct BrokenWindow {
    WholeSpan schedule;
    BrokenSelection codec;
};

TEST(InPlaceErrors, NameWhatIsWrongAndChangeNothing) {
    const Shape shape{.tokens = 20};
    const RopeOptions rope_options_12 = rope_options(shape, RopePairing::adjacent, 12);
    ForeignCache<float> cache(shape, Layout::token_major);
    fill(cache, positions_from_zero(20), rope_options_12, 8);
    const std::vector<float> before = cache.bytes();
    InPlaceCompressor<float> compressor(LowPass<>(0.5), Rope<float>(rope_options_12, 20));

    const auto message = [&](KVView<float> keys, KVView<float> values, const InPlaceOptions& options) -> std::string {
        try {
            compressor.compress(keys, values, options);
        } catch (const Error& error) {
            EXPECT_TRUE(cache.holds(before)) << error.what();
            return error.what();
        }
        return "accepted";
    };
    const auto with = [](KVView<float> view, auto member, auto value) {
        view.*member = value;
        return view;
    };
    const KVView<float> keys = cache.keys;
    const KVView<float> values = cache.values;
    using View = KVView<float>;
    EXPECT_EQ(message(with(keys, &View::data, nullptr), values, {}), "freqkv: data of keys is 0, must not be null");
    EXPECT_EQ(message(keys, with(values, &View::data, nullptr), {}), "freqkv: data of values is 0, must not be null");
    EXPECT_EQ(message(with(keys, &View::heads, 0), with(values, &View::heads, 0), {}),
              "freqkv: heads of keys is 0, must be at least 1");
    EXPECT_EQ(message(with(keys, &View::head_dim, 0), values, {}), "freqkv: head_dim of keys is 0, must be at least 1");
    EXPECT_EQ(message(keys, with(values, &View::head_dim, -1), {}),
              "freqkv: head_dim of values is -1, must be at least 1");
    EXPECT_EQ(message(keys, with(values, &View::heads, 1), {}), "freqkv: heads of values is 1, must be those of keys");
    EXPECT_EQ(message(keys, with(values, &View::tokens, 19), {}),
              "freqkv: tokens of values is 19, must be those of keys");
    EXPECT_EQ(message(with(keys, &View::head_dim, 8), values, {}),
              "freqkv: head_dim of keys is 8, must be that of the rope");
    EXPECT_THAT(message(keys, values, {.sinks = -1}), HasSubstr("sinks is -1, must not be negative"));
    EXPECT_THAT(message(keys, values, {.sinks = 20}), HasSubstr("sinks is 20, must not be negative and must be below"));
    EXPECT_THAT(message(keys.middle_tokens(0, 0), values.middle_tokens(0, 0), {.sinks = 0}), HasSubstr("sinks is 0"));
    EXPECT_THAT(message(keys, values, {.sinks = 0, .recent = -2}), HasSubstr("recent is -2, must not be negative"));
    EXPECT_THAT(message(keys, values, {.sinks = 4, .recent = 16}), HasSubstr("recent is 16, must not be negative and"));
    EXPECT_THAT(message(keys, values, {.compressions = -1}), HasSubstr("compressions is -1, must not be negative"));
    const std::vector<Index> few(19);
    EXPECT_EQ(message(keys, values, {.positions = few}),
              "freqkv: number of positions is 19, must be 0 or the number of tokens");
    EXPECT_THAT(message(keys, values, {.sinks = 4, .recent = 15}),
                HasSubstr("capacity is 20, must be at least sinks + recent + 2"));
    EXPECT_THAT(compressor.sizes(), ElementsAre()) << "nothing has been compressed";
    EXPECT_EQ(message(keys, values, {.sinks = 4, .recent = 2}), "accepted");
    EXPECT_THAT(compressor.sizes(), ElementsAre(13, 13));
}

TEST(InPlaceErrors, OfThePolicyChangeNothing) {
    const Shape shape{.tokens = 20};
    ForeignCache<float> cache(shape, Layout::transposed);
    fill(cache, positions_from_zero(20), rope_options(shape, RopePairing::adjacent, 0), 8);
    const std::vector<float> before = cache.bytes();
    InPlaceCompressor<float, BrokenWindow> broken;
    EXPECT_THROW(broken.compress(cache.keys, cache.values), std::runtime_error);
    EXPECT_TRUE(cache.holds(before)) << "head 0 alone could have been compressed";
    EXPECT_THAT(broken.sizes(), ElementsAre());
    EXPECT_EQ(broken.compress(KVView<float>(cache.keys.data, 1, 20, 12, 0, 1, 25),
                              KVView<float>(cache.values.data, 1, 20, 10, 0, 1, 25)),
              12);
    EXPECT_THAT(broken.sizes(), ElementsAre(12));
    const std::vector<float> after = cache.bytes();
    EXPECT_THROW(broken.compress(cache.keys, cache.values), std::runtime_error);
    EXPECT_TRUE(cache.holds(after));
    EXPECT_THAT(broken.sizes(), ElementsAre(12)) << "of the latest compression that took place";

    InPlaceCompressor<float> greedy(LowPass<>(1.5));
    EXPECT_THAT([&] { greedy.compress(cache.keys, cache.values); },
                testing::ThrowsMessage<Error>(HasSubstr("ratio is 1.500000, must be above 0 and below 1")));
    EXPECT_TRUE(cache.holds(after));
}

#endif

}  // namespace
}  // namespace freqkv
