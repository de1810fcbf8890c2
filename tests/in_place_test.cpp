// SPDX-License-Identifier: MIT
#include "freqkv/in_place.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cstddef>
#include <string>
#include <vector>

#include "foreign_cache.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "naive.hpp"

// What the call computes, on the host and on a device.
namespace freqkv::in_place_test {
namespace {

using testing::ElementsAre;

TYPED_TEST_SUITE(InPlace, Stored);

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

}  // namespace
}  // namespace freqkv::in_place_test
