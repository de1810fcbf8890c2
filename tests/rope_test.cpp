// SPDX-License-Identifier: MIT
#include "freqkv/rope.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "naive.hpp"

namespace freqkv {
namespace {

using testing::HasSubstr;

naive::Rotary naive_rotary(const RopeOptions& options) {
    const Index rotated = options.rotated_dims < 0 ? options.head_dim : options.rotated_dims;
    return {static_cast<std::size_t>(rotated), options.base, options.pairing == RopePairing::adjacent,
            options.linear_scaling, options.frequency_factors};
}

std::string describe(const RopeOptions& options) {
    return "head_dim " + std::to_string(options.head_dim) + ", rotated_dims " + std::to_string(options.rotated_dims) +
           ", base " + std::to_string(options.base) + ", linear_scaling " + std::to_string(options.linear_scaling) +
           ", " + std::to_string(options.frequency_factors.size()) + " frequency factors, pairing " +
           (options.pairing == RopePairing::adjacent ? "adjacent" : "half_split");
}

// Llama, a long-context base, partial rotation, Llama 3 style factors, position interpolation, and all of
// it at once, in both pairings.
std::vector<RopeOptions> swept_options() {
    std::vector<RopeOptions> all;
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        for (RopeOptions options : std::vector<RopeOptions>{
                 {.head_dim = 8},
                 {.head_dim = 2},
                 {.head_dim = 128, .base = 500000},
                 {.head_dim = 80, .rotated_dims = 20, .base = 100},
                 {.head_dim = 7, .rotated_dims = 4},
                 {.head_dim = 5, .rotated_dims = 0},
                 {.head_dim = 8, .frequency_factors = {1, 1.5, 4, 32}},
                 {.head_dim = 16, .linear_scaling = 8},
                 {.head_dim = 10,
                  .rotated_dims = 6,
                  .base = 1e6,
                  .linear_scaling = 0.5,
                  .frequency_factors = {1, 2, 0.25}},
             }) {
            options.pairing = pairing;
            all.push_back(options);
        }
    }
    return all;
}

const std::vector<Index> swept_positions{0, 1, 2, 63, 64, 65, 1000, 131071, -1, -17, -4096};
constexpr Index table = 64;

// Storage types with how far a rotated element may be off, for elements below 1.5.
template <class T>
constexpr double rounding = std::numeric_limits<double>::quiet_NaN();
template <>
constexpr double rounding<float> = 3e-7;
template <>
constexpr double rounding<double> = 1e-10;  // of the angle: 131071 * 2^-53
template <>
constexpr double rounding<Eigen::half> = 1e-3;
template <>
constexpr double rounding<Eigen::bfloat16> = 8e-3;

template <class T>
class RopeOf : public testing::Test {
protected:
    using C = Arithmetic<T>;

    static std::vector<T> random(std::size_t count, std::uint64_t seed) {
        naive::Random next(seed);
        std::vector<T> x(count);
        for (T& value : x) value = static_cast<T>(static_cast<C>(next()));
        return x;
    }

    static naive::Row row_of(KVView<const T> x, Index head, Index token) {
        naive::Row row;
        for (Index d = 0; d < x.head_dim; ++d)
            row.push_back(static_cast<double>(static_cast<C>(x.head(head)(token, d))));
        return row;
    }

    // Every row of `got` must be that row of `from`, rotated.
    static void expect_rotated(KVView<const T> from, KVView<const T> got, const std::vector<Index>& positions,
                               const RopeOptions& options) {
        for (Index h = 0; h < from.heads; ++h) {
            for (Index t = 0; t < from.tokens; ++t) {
                const Index position = positions[static_cast<std::size_t>(t)];
                const naive::Row want = naive::rotated(row_of(from, h, t), position, naive_rotary(options));
                for (Index d = 0; d < from.head_dim; ++d) {
                    ASSERT_NEAR(static_cast<double>(static_cast<C>(got.head(h)(t, d))),
                                want[static_cast<std::size_t>(d)], rounding<T>)
                        << "head " << h << ", position " << position << ", dimension " << d << "; "
                        << describe(options);
                }
            }
        }
    }
};

using Stored = testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(RopeOf, Stored);

TYPED_TEST(RopeOf, RotatesAsTheFormulaSaysAtAnyPosition) {
    using T = TypeParam;
    const auto tokens = static_cast<Index>(swept_positions.size());
    for (const RopeOptions& options : swept_options()) {
        const Rope<Arithmetic<T>> rope(options, table);
        const std::vector<T> before = this->random(static_cast<std::size_t>(3 * tokens * options.head_dim), 1);
        std::vector<T> after = before;
        rope.rotate(KVView<T>(after.data(), 3, tokens, options.head_dim), swept_positions);
        this->expect_rotated(KVView<const T>(before.data(), 3, tokens, options.head_dim),
                             KVView<const T>(after.data(), 3, tokens, options.head_dim), swept_positions, options);
    }
}

TYPED_TEST(RopeOf, UnrotateUndoesRotate) {
    using T = TypeParam;
    const auto tokens = static_cast<Index>(swept_positions.size());
    for (const RopeOptions& options : swept_options()) {
        const Rope<Arithmetic<T>> rope(options, table);
        const std::vector<T> before = this->random(static_cast<std::size_t>(2 * tokens * options.head_dim), 2);
        std::vector<T> after = before;
        const KVView<T> view(after.data(), 2, tokens, options.head_dim);
        rope.rotate(view, swept_positions);
        rope.unrotate(view, swept_positions);
        rope.unrotate(view, Index{-5});
        rope.rotate(view, Index{-5});
        const auto rotations = 4;
        for (std::size_t i = 0; i < before.size(); ++i) {
            ASSERT_NEAR(static_cast<double>(after[i]), static_cast<double>(before[i]), rotations * rounding<T>)
                << "element " << i << "; " << describe(options);
        }
    }
}

TYPED_TEST(RopeOf, UnderstandsAnyStrides) {
    using T = TypeParam;
    const RopeOptions options{.head_dim = 10, .rotated_dims = 6, .pairing = RopePairing::half_split};
    const Rope<Arithmetic<T>> rope(options, table);
    const Index heads = 3;
    const Index tokens = 5;
    const Index dim = options.head_dim;
    const std::vector<Index> positions{7, 8, 9, 10, 11};
    const std::vector<T> before = this->random(static_cast<std::size_t>(2 * heads * tokens * dim), 3);
    const struct {
        const char* name;
        Index begin, head, token, dim;
    } layouts[]{
        {"head-major", 0, tokens * dim, dim, 1},
        {"token-major", 0, dim, heads * dim, 1},
        {"transposed", 0, tokens * dim, 1, tokens},
        {"every second element", 1, 2 * tokens * dim, 2 * dim, 2},
        {"tokens backwards", (tokens - 1) * dim, tokens * dim, -dim, 1},
    };
    for (const auto& layout : layouts) {
        SCOPED_TRACE(layout.name);
        std::vector<T> after = before;
        const KVView<const T> from(before.data() + layout.begin, heads, tokens, dim, layout.head, layout.token,
                                   layout.dim);
        const KVView<T> to(after.data() + layout.begin, heads, tokens, dim, layout.head, layout.token, layout.dim);
        rope.rotate(to, Index{7});
        this->expect_rotated(from, to, positions, options);
        // What is not in the view must be as before.
        std::vector<char> inside(before.size());
        for (Index h = 0; h < heads; ++h) {
            for (Index t = 0; t < tokens; ++t) {
                for (Index d = 0; d < dim; ++d) inside[static_cast<std::size_t>(&to.head(h)(t, d) - after.data())] = 1;
            }
        }
        for (std::size_t i = 0; i < before.size(); ++i) {
            if (inside[i] == 0) {
                ASSERT_EQ(std::memcmp(&after[i], &before[i], sizeof(T)), 0) << "element " << i;
            }
        }
    }
}

TYPED_TEST(RopeOf, LeavesTheTailAndPositionZeroAlone) {
    using T = TypeParam;
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        const RopeOptions options{.head_dim = 9, .rotated_dims = 4, .pairing = pairing};
        const Rope<Arithmetic<T>> rope(options, table);
        const std::vector<T> before = this->random(4 * 9, 4);
        std::vector<T> after = before;
        rope.rotate(KVView<T>(after.data(), 1, 4, 9), Index{0});
        EXPECT_EQ(std::memcmp(after.data(), before.data(), 9 * sizeof(T)), 0) << "position 0 turns nothing";
        EXPECT_NE(std::memcmp(after.data() + 9, before.data() + 9, 4 * sizeof(T)), 0) << "position 1 turns";
        for (std::size_t t = 0; t < 4; ++t) {
            EXPECT_EQ(std::memcmp(&after[t * 9 + 4], &before[t * 9 + 4], 5 * sizeof(T)), 0)
                << "dimensions from rotated_dims on, token " << t;
        }
    }
}

template <class C>
class RopeIn : public testing::Test {};
using Computed = testing::Types<float, double>;
TYPED_TEST_SUITE(RopeIn, Computed);

TYPED_TEST(RopeIn, ComputesTheSameAnglesAsItTabulates) {
    using C = TypeParam;
    for (const RopeOptions& options : swept_options()) {
        const Rope<C> tabulated(options, 200);
        const Rope<C> computed(options);
        EXPECT_EQ(tabulated.table_positions(), 200);
        EXPECT_EQ(computed.table_positions(), 0);
        EXPECT_EQ(computed.table_bytes(), 0);
        EXPECT_EQ(tabulated.table_bytes(), 200 * 2 * tabulated.pairs() * static_cast<Index>(sizeof(C)));
        std::vector<C> scratch(static_cast<std::size_t>(2 * computed.pairs()) + 1);
        for (Index position = 0; position < 200; ++position) {
            const C* const known = tabulated.angles(position, nullptr);
            const C* const fresh = computed.angles(position, scratch.data());
            for (Index i = 0; i < 2 * computed.pairs(); ++i) {
                ASSERT_EQ(known[i], fresh[i])
                    << "position " << position << ", angle " << i << "; " << describe(options);
            }
        }
    }
}

TYPED_TEST(RopeIn, ScoresDependOnTheDistanceAlone) {
    using C = TypeParam;
    const double tolerance = sizeof(C) == 4 ? 3e-6 : 1e-12;
    naive::Random next(5);
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        const RopeOptions options{.head_dim = 16, .rotated_dims = 12, .pairing = pairing};
        const Rope<C> rope(options, table);
        std::vector<C> q(16), k(16);
        for (C& value : q) value = static_cast<C>(next());
        for (C& value : k) value = static_cast<C>(next());
        const auto score = [&](Index query_position, Index key_position) {
            std::vector<C> a = q;
            std::vector<C> b = k;
            rope.rotate(KVView<C>(a.data(), 1, 1, 16), query_position);
            rope.rotate(KVView<C>(b.data(), 1, 1, 16), key_position);
            double sum = 0;
            for (std::size_t d = 0; d < 16; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
            return sum;
        };
        for (const Index distance : {0, 1, 5, 40}) {
            const double near = score(distance, 0);
            for (const Index shift : {1, 30, 500, -3}) {
                EXPECT_NEAR(score(distance + shift, shift), near, tolerance)
                    << "distance " << distance << ", shifted by " << shift;
            }
        }
        EXPECT_GT(std::abs(score(7, 0) - score(0, 7)), 1e-3) << "the direction matters";
    }
}

TEST(Rope, TurnsBetweenElementTypesAndStrides) {
    const RopeOptions options{.head_dim = 6, .rotated_dims = 4};
    const Rope<float> rope(options, table);
    naive::Random next(6);
    std::vector<double> in(12);
    for (double& value : in) value = next();
    std::vector<Eigen::half> out(18);
    rope.turn(in.data(), 2, out.data(), 3, rope.angles(3, nullptr));
    const naive::Row want = naive::rotated({in[0], in[2], in[4], in[6], in[8], in[10]}, 3, naive_rotary(options));
    for (std::size_t d = 0; d < 6; ++d) {
        EXPECT_NEAR(static_cast<double>(static_cast<float>(out[3 * d])), want[d], rounding<Eigen::half>);
        EXPECT_EQ(static_cast<float>(out[3 * d + 1]), 0) << "between the strides";
    }
}

TEST(Rope, CopiesShareTheTable) {
    const Rope<float> rope({.head_dim = 8}, table);
    const Rope<float> copy = rope;  // NOLINT(performance-unnecessary-copy-initialization): the copy is the subject
    EXPECT_EQ(copy.angles(5, nullptr), rope.angles(5, nullptr));
    EXPECT_EQ(copy.pairing(), RopePairing::adjacent);
    EXPECT_EQ(copy.head_dim(), 8);
    EXPECT_EQ(copy.pairs(), 4);
}

// Each message names the option, its value and what is allowed.
TEST(Rope, RefusesBadOptions) {
    const auto message = [](const RopeOptions& options, Index positions = table) -> std::string {
        try {
            const Rope<float> rope(options, positions);
        } catch (const Error& error) {
            return error.what();
        }
        return "accepted";
    };
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double infinity = std::numeric_limits<double>::infinity();
    EXPECT_EQ(message({.head_dim = 8}), "accepted");
    EXPECT_EQ(message({}), "freqkv: head_dim is 0, must be at least 1");
    EXPECT_EQ(message({.head_dim = -8}), "freqkv: head_dim is -8, must be at least 1");
    EXPECT_EQ(message({.head_dim = 8, .rotated_dims = 3}),
              "freqkv: rotated_dims is 3, must be even and not above head_dim, or -1 for all");
    EXPECT_THAT(message({.head_dim = 8, .rotated_dims = 10}), HasSubstr("rotated_dims is 10, must be even"));
    EXPECT_THAT(message({.head_dim = 8, .rotated_dims = -2}), HasSubstr("rotated_dims is -2, must be even"));
    EXPECT_THAT(message({.head_dim = 7}), HasSubstr("rotated_dims is 7, must be even"));
    EXPECT_THAT(message({.head_dim = 8, .base = 0}), HasSubstr("base is 0.000000, must be positive and finite"));
    EXPECT_THAT(message({.head_dim = 8, .base = -10000}), HasSubstr("base is -10000.000000, must be positive"));
    EXPECT_THAT(message({.head_dim = 8, .base = nan}), HasSubstr("base is"));
    EXPECT_THAT(message({.head_dim = 8, .base = infinity}), HasSubstr("base is inf"));
    EXPECT_THAT(message({.head_dim = 8, .linear_scaling = 0}),
                HasSubstr("linear_scaling is 0.000000, must be positive and finite"));
    EXPECT_THAT(message({.head_dim = 8, .linear_scaling = infinity}), HasSubstr("linear_scaling is inf"));
    EXPECT_THAT(message({.head_dim = 8, .linear_scaling = nan}), HasSubstr("linear_scaling is"));
    EXPECT_EQ(message({.head_dim = 8, .frequency_factors = {1, 1, 1}}),
              "freqkv: number of frequency_factors is 3, must be 0 or rotated_dims / 2");
    EXPECT_THAT(message({.head_dim = 4, .frequency_factors = {1, 0}}),
                HasSubstr("frequency factor is 0.000000, must be positive and finite"));
    EXPECT_THAT(message({.head_dim = 4, .frequency_factors = {1, -2}}), HasSubstr("frequency factor is -2"));
    EXPECT_THAT(message({.head_dim = 4, .frequency_factors = {infinity, 1}}), HasSubstr("frequency factor is inf"));
    EXPECT_EQ(message({.head_dim = 8}, -1), "freqkv: table_positions is -1, must not be negative");
    EXPECT_THAT(message({.head_dim = 8}, std::numeric_limits<Index>::max()), HasSubstr("rope table size is over 2^63"));
}

TEST(Rope, RefusesViewsThatDoNotFit) {
    const Rope<float> rope({.head_dim = 8}, table);
    std::vector<float> x(32, 1);
    const std::vector<float> before = x;
    const auto message = [&](auto&& call) -> std::string {
        try {
            call();
        } catch (const Error& error) {
            return error.what();
        }
        return "accepted";
    };
    const KVView<float> view(x.data(), 1, 4, 8);
    const KVView<float> narrow(x.data(), 1, 4, 6);
    const std::vector<Index> three{1, 2, 3};
    EXPECT_EQ(message([&] { rope.rotate(narrow, Index{1}); }),
              "freqkv: head_dim of the view is 6, must be the rope's head_dim");
    EXPECT_THAT(message([&] { rope.unrotate(narrow, Index{1}); }), HasSubstr("head_dim of the view is 6"));
    EXPECT_EQ(message([&] { rope.rotate(view, three); }),
              "freqkv: number of positions is 3, must be the number of tokens of the view");
    EXPECT_THAT(message([&] { rope.unrotate(view, three); }), HasSubstr("number of positions is 3"));
    EXPECT_EQ(x, before) << "nothing may change before an error";
}

}  // namespace
}  // namespace freqkv
