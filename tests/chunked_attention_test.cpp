// SPDX-License-Identifier: MIT
#include "freqkv/chunked_attention.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "naive_cache.hpp"

using namespace freqkv;
using testing::HasSubstr;
using testing::ThrowsMessage;

namespace {

struct Shape {
    Index query_heads, kv_heads, key_dim, value_dim, rotated_dims, capacity, recent, tokens;
    RopePairing pairing = RopePairing::adjacent;

    RopeOptions rope() const { return {.head_dim = key_dim, .rotated_dims = rotated_dims, .pairing = pairing}; }
    naive::Rotary rotary() const {
        return {.rotated_dims = static_cast<std::size_t>(rotated_dims), .adjacent = pairing == RopePairing::adjacent};
    }
    CacheOptions options() const {
        return {.kv_heads = kv_heads,
                .query_heads = query_heads,
                .key_dim = key_dim,
                .value_dim = value_dim,
                .capacity = capacity,
                .recent = recent};
    }
};

// A text's queries, keys and values.
struct Text {
    explicit Text(const Shape& s, double query_size = 1)
        : q(s.query_heads, s.tokens, s.key_dim, 31),
          k(s.kv_heads, s.tokens, s.key_dim, 32),
          v(s.kv_heads, s.tokens, s.value_dim, 33) {
        const KVView<float> queries = q.view();
        for (Index h = 0; h < queries.heads; ++h) {
            for (Index t = 0; t < queries.tokens; ++t) {
                for (Index d = 0; d < queries.head_dim; ++d) queries.head(h)(t, d) *= static_cast<float>(query_size);
            }
        }
    }
    naive::RandomTokens<float> q, k, v;
};

template <class U, class P>
SinkedKVCache<U, P> make_cache(const Shape& s, P policy) {
    return {s.options(), Rope<Arithmetic<U>>(s.rope(), s.capacity), policy};
}

// Feeds the text in chunks; the result is [tokens, query_heads * value_dim].
template <class U, class P, class E = SerialExecutor>
std::vector<float> run(const Shape& s, const Text& text, SinkedKVCache<U, P>& cache, Index chunk,
                       const E& executor = {}, AttentionOptions options = {}) {
    std::vector<float> out(static_cast<std::size_t>(s.tokens * s.query_heads * s.value_dim), NAN);
    const auto view = KVView<float>::token_major(out.data(), s.query_heads, s.tokens, s.value_dim);
    ChunkedAttention<float> attention(options);
    for (Index t = 0; t < s.tokens; t += chunk) {
        const Index count = std::min(chunk, s.tokens - t);
        attention.forward(
            std::as_const(text.q).view().middle_tokens(t, count), std::as_const(text.k).view().middle_tokens(t, count),
            std::as_const(text.v).view().middle_tokens(t, count), cache, view.middle_tokens(t, count), executor);
    }
    return out;
}

// The same by the naive method, token by token.
std::vector<double> expect(const Shape& s, const Text& text, double ratio, naive::CompressSpan compress, double scale) {
    std::vector<double> out(static_cast<std::size_t>(s.tokens * s.query_heads * s.value_dim));
    const Index group = s.query_heads / s.kv_heads;
    for (Index h = 0; h < s.kv_heads; ++h) {
        naive::Cache cache(1, compress == nullptr ? s.tokens + 10 : s.capacity, s.rotary(),
                           naive::whole_span(4, s.recent, ratio, compress));
        for (Index t = 0; t < s.tokens; ++t) {
            cache.append({naive::row(std::as_const(text.k).view().head(h), t)},
                         {naive::row(std::as_const(text.v).view().head(h), t)});
            for (Index g = 0; g < group; ++g) {
                const naive::Row row =
                    cache.attended(0, naive::row(std::as_const(text.q).view().head(h * group + g), t), scale);
                for (Index d = 0; d < s.value_dim; ++d) {
                    out[static_cast<std::size_t>((t * s.query_heads + h * group + g) * s.value_dim + d)] =
                        row[static_cast<std::size_t>(d)];
                }
            }
        }
    }
    return out;
}

void expect_near(const std::vector<double>& expected, const std::vector<float>& actual, double tolerance,
                 const Shape& s) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const Index row = static_cast<Index>(i) / s.value_dim;
        ASSERT_NEAR(expected[i], actual[i], tolerance)
            << "token " << row / s.query_heads << ", query head " << row % s.query_heads << ", dim "
            << static_cast<Index>(i) % s.value_dim;
    }
}

class AgainstNaiveAttention : public testing::TestWithParam<Shape> {};

template <class U>
void check_against_naive(const Shape& s, double tolerance) {
    const Text text(s);
    const double scale = 1 / std::sqrt(static_cast<double>(s.key_dim));
    const auto check = [&](auto policy, naive::CompressSpan compress) {
        const std::vector<double> expected = expect(s, text, 0.5, compress, scale);
        for (const Index chunk : {Index{1}, Index{7}, Index{50}, s.tokens}) {
            SCOPED_TRACE("chunks of " + std::to_string(chunk));
            auto cache = make_cache<U>(s, policy);
            expect_near(expected, run(s, text, cache, chunk), tolerance, s);
        }
    };
    check(LowPass<>(0.5), &naive::Head::low_pass);
    check(LocalWindow(0.5), &naive::Head::select_latest);
    check(Full{}, nullptr);
}

TEST_P(AgainstNaiveAttention, OverFloatIsTheMethods) { check_against_naive<float>(GetParam(), 2e-5); }
TEST_P(AgainstNaiveAttention, OverDoubleIsTheMethods) {
    check_against_naive<double>(GetParam(), 1e-6);
}  // the result is float
TEST_P(AgainstNaiveAttention, OverHalfIsTheMethods) { check_against_naive<Eigen::half>(GetParam(), 1e-2); }
TEST_P(AgainstNaiveAttention, OverBFloat16IsTheMethods) { check_against_naive<Eigen::bfloat16>(GetParam(), 8e-2); }

// Groups of 1, 2, 4 and all heads; value_dim apart from key_dim; partial rotation; a span that ends in the
// middle of a tile.
INSTANTIATE_TEST_SUITE_P(Shapes, AgainstNaiveAttention,
                         testing::Values(Shape{2, 2, 8, 8, 8, 40, 0, 120},
                                         Shape{4, 2, 16, 12, 16, 37, 6, 100, RopePairing::half_split},
                                         Shape{4, 1, 6, 9, 4, 50, 5, 90},
                                         Shape{3, 3, 5, 1, 2, 23, 3, 60, RopePairing::half_split},
                                         Shape{40, 1, 4, 4, 4, 30, 0, 50}));

// Dims that fill registers in part, once, or several times, apart for keys and values; and every way of
// dividing a group into blocks of rows.
INSTANTIATE_TEST_SUITE_P(Lanes, AgainstNaiveAttention,
                         testing::Values(Shape{1, 1, 1, 1, 0, 30, 0, 33}, Shape{2, 2, 3, 17, 2, 30, 0, 33},
                                         Shape{6, 2, 17, 3, 16, 30, 0, 33}, Shape{5, 1, 40, 80, 40, 30, 0, 33},
                                         Shape{12, 2, 80, 40, 80, 30, 0, 33}, Shape{7, 1, 128, 1, 128, 30, 0, 33},
                                         Shape{8, 1, 15, 128, 14, 30, 0, 33}, Shape{2, 1, 16, 33, 16, 30, 0, 33},
                                         Shape{3, 1, 144, 100, 144, 30, 0, 33}));

// Sizes around the four keys of one step, the tile's rows (8 to 64, two to a token here), the block of keys
// (128) and the stretch of one token's pass (256).
TEST(ChunkedAttention, IsRightAroundTheSizesOfItsBlocks) {
    for (const Index tokens : {1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 127, 128, 129, 255, 256, 257, 259, 513}) {
        const Shape s{2, 1, 4, 4, 4, 600, 0, tokens};
        const Text text(s);
        const std::vector<double> expected = expect(s, text, 0.5, &naive::Head::select_latest, 0.5);
        for (const Index chunk : {Index{1}, tokens}) {
            SCOPED_TRACE(std::to_string(tokens) + " tokens in chunks of " + std::to_string(chunk));
            auto cache = make_cache<float>(s, LocalWindow());
            expect_near(expected, run(s, text, cache, chunk), 2e-5, s);
        }
    }
}

TEST(ChunkedAttention, LeavesTheCacheTheSameToTheBitInAnyChunks) {
    const Shape s{4, 2, 16, 16, 16, 100, 12, 1000};
    const Text text(s);
    auto whole = make_cache<float>(s, LowPass<>());
    const std::vector<float> expected = run(s, text, whole, s.tokens);
    for (const Index chunk : {1, 7, 333}) {
        SCOPED_TRACE("chunks of " + std::to_string(chunk));
        auto pieces = make_cache<float>(s, LowPass<>());
        const std::vector<float> actual = run(s, text, pieces, chunk);
        for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(expected[i], actual[i], 1e-5);
        for (Index h = 0; h < s.kv_heads; ++h) {
            ASSERT_EQ(whole.size(h), pieces.size(h));
            for (Index i = 0; i < whole.size(h); ++i) {
                ASSERT_EQ(0, std::memcmp(whole.keys(h).row(i), pieces.keys(h).row(i), 16 * sizeof(float)))
                    << "key of entry " << i;
                ASSERT_EQ(0, std::memcmp(whole.values(h).row(i), pieces.values(h).row(i), 16 * sizeof(float)))
                    << "value of entry " << i;
            }
        }
    }
}

#if defined(_OPENMP)
TEST(ChunkedAttention, ThreadsDoNotChangeABit) {
    const Shape s{8, 4, 64, 64, 64, 700, 0, 1500};  // long enough to be handed out
    const Text text(s);
    for (const Index chunk : {1, 400}) {
        auto one = make_cache<float>(s, LowPass<>());
        const std::vector<float> expected = run(s, text, one, chunk);
        for (const int threads : {2, 3}) {
            auto cache = make_cache<float>(s, LowPass<>());
            EXPECT_EQ(expected, run(s, text, cache, chunk, OpenMPExecutor(threads)))
                << threads << " threads, chunks of " << chunk;
        }
    }
}
#endif

TEST(ChunkedAttention, HeadsOfDifferentCapacityAttendToTheirOwnEntries) {
    const Shape s{4, 2, 8, 8, 8, 40, 0, 150};
    const Text text(s);
    for (const Index chunk : {1, 150}) {
        CacheOptions options = s.options();
        options.head_capacities = {40, 23};
        SinkedKVCache<float, LowPass<>> ragged(options, Rope<float>(s.rope(), 40));
        const std::vector<float> out = run(s, text, ragged, chunk);
        for (const Index h : {0, 1}) {
            Shape alike = s;
            alike.capacity = options.head_capacities[static_cast<std::size_t>(h)];
            auto cache = make_cache<float>(alike, LowPass<>());
            const std::vector<float> expected = run(alike, text, cache, chunk);
            for (Index t = 0; t < s.tokens; ++t) {
                for (Index i = 2 * h * s.value_dim; i < 2 * (h + 1) * s.value_dim; ++i) {
                    const auto at = static_cast<std::size_t>(t * s.query_heads * s.value_dim + i);
                    ASSERT_NEAR(expected[at], out[at], 1e-5) << "token " << t << ", KV head " << h;
                }
            }
        }
    }
}

TEST(ChunkedAttention, SurvivesScoresThatExpCannotTake) {
    const Shape s{2, 1, 8, 8, 8, 400, 0, 300};
    const Text text(s, 1e4);
    const std::vector<double> expected = expect(s, text, 0.5, &naive::Head::select_latest, 1 / std::sqrt(8.0));
    for (const Index chunk : {1, 300}) {
        auto cache = make_cache<float>(s, LocalWindow());
        const std::vector<float> out = run(s, text, cache, chunk);
        for (std::size_t i = 0; i < out.size(); ++i) ASSERT_TRUE(std::isfinite(out[i])) << "element " << i;
        // Scores of 1e4 have an absolute rounding of 1e-3, and so have the weights.
        expect_near(expected, out, 5e-2, s);
    }
}

// Scores that are all far below zero, or all far above it; the best key of all is every seventh.
TEST(ChunkedAttention, SurvivesLargeScoresOfOneSign) {
    const Shape s{2, 1, 8, 8, 2, 400, 0, 300};
    for (const float size : {-1e6F, 1e6F}) {
        Text text(s);
        for (Index t = 0; t < s.tokens; ++t) {
            for (Index d = 0; d < s.key_dim; ++d) {
                for (Index h = 0; h < s.query_heads; ++h) text.q.view().head(h)(t, d) = d == 7 ? size : 0;
                text.k.view().head(0)(t, d) = d == 7 ? static_cast<float>(1 + t % 7) : 0;
            }
        }
        const std::vector<double> expected = expect(s, text, 0.5, &naive::Head::select_latest, 1 / std::sqrt(8.0));
        for (const Index chunk : {1, 300}) {
            SCOPED_TRACE("scores times " + std::to_string(size) + ", chunks of " + std::to_string(chunk));
            auto cache = make_cache<float>(s, LocalWindow());
            expect_near(expected, run(s, text, cache, chunk), 2e-5, s);
        }
    }
}

TEST(ChunkedAttention, TakesTheScaleThatItIsGiven) {
    const Shape s{2, 1, 8, 8, 8, 40, 0, 50};
    const Text text(s);
    auto cache = make_cache<float>(s, LocalWindow());
    expect_near(expect(s, text, 0.5, &naive::Head::select_latest, 0.125),
                run(s, text, cache, 50, SerialExecutor{}, {.scale = 0.125}), 2e-5, s);
}

template <class C>
void check_exp_of_lanes() {
    using detail::Lanes, detail::lane_count;
    const auto exp = [](C x) { return detail::exp_lanes<C>(Lanes<C>{} + x)[lane_count<C> - 1]; };
    const C lowest = std::log(std::numeric_limits<C>::min());
    for (C x = 0; x > lowest + 1; x -= C(0.0078125) + std::numeric_limits<C>::epsilon() * 12345) {
        const double expected = std::exp(static_cast<double>(x));
        ASSERT_NEAR(static_cast<double>(exp(x)) / expected, 1, 1.5 * std::numeric_limits<C>::epsilon()) << x;
    }
    EXPECT_EQ(exp(0), 1);
    EXPECT_EQ(exp(-std::numeric_limits<C>::infinity()), 0);
    EXPECT_EQ(exp(std::numeric_limits<C>::lowest()), 0);
    EXPECT_TRUE(std::isnan(exp(std::numeric_limits<C>::quiet_NaN())));
    for (C x = lowest + 1; x > 2 * lowest; x -= C(0.25))
        EXPECT_NEAR(exp(x), std::exp(x), std::numeric_limits<C>::min() * 3);
}
TEST(ChunkedAttention, ExpOfLanesIsThatOfTheLibrary) {
    check_exp_of_lanes<float>();
    check_exp_of_lanes<double>();
}

TEST(ChunkedAttention, TakesEigenTensors) {
    const Shape s{4, 2, 8, 8, 8, 40, 0, 100};
    const Text text(s);
    Eigen::Tensor<float, 3, Eigen::RowMajor> q(4, 100, 8), k(2, 100, 8), out(4, 100, 8);
    Eigen::Tensor<float, 3> v(2, 100, 8);
    for (Index h = 0; h < 4; ++h) {
        for (Index t = 0; t < 100; ++t) {
            for (Index d = 0; d < 8; ++d) {
                q(h, t, d) = std::as_const(text.q).view().head(h)(t, d);
                if (h < 2) k(h, t, d) = std::as_const(text.k).view().head(h)(t, d);
                if (h < 2) v(h, t, d) = std::as_const(text.v).view().head(h)(t, d);
            }
        }
    }
    auto cache = make_cache<float>(s, LowPass<>());
    ChunkedAttention<float> attention;
    attention.forward(q, k, v, cache, out);
    auto again = make_cache<float>(s, LowPass<>());
    const std::vector<float> expected = run(s, text, again, 100);
    for (Index h = 0; h < 4; ++h) {
        for (Index t = 0; t < 100; ++t) {
            for (Index d = 0; d < 8; ++d) {
                ASSERT_EQ(out(h, t, d), expected[static_cast<std::size_t>((t * 4 + h) * 8 + d)]);
            }
        }
    }
}

TEST(ChunkedAttention, ScratchOfAChunkDoesNotDependOnTheContext) {
    const auto scratch = [](Index capacity) {
        const Shape s{2, 1, 8, 8, 8, capacity, 0, capacity};
        const Text text(s);
        auto cache = make_cache<float>(s, LocalWindow());
        std::vector<float> out(static_cast<std::size_t>(s.tokens * 16));
        ChunkedAttention<float> attention;
        attention.forward(std::as_const(text.q).view(), std::as_const(text.k).view(), std::as_const(text.v).view(),
                          cache, KVView<float>::token_major(out.data(), 2, s.tokens, 8));
        return attention.scratch_bytes();
    };
    EXPECT_EQ(scratch(100), scratch(3000));
}

TEST(ChunkedAttention, NothingHappensForNoTokens) {
    const Shape s{2, 1, 8, 8, 8, 40, 0, 0};
    const Text text(s);
    auto cache = make_cache<float>(s, LowPass<>());
    EXPECT_TRUE(run(s, text, cache, 1).empty());
    ChunkedAttention<float> attention;
    attention.forward(std::as_const(text.q).view(), std::as_const(text.k).view(), std::as_const(text.v).view(), cache,
                      KVView<float>(nullptr, 2, 0, 8));
    EXPECT_EQ(cache.tokens_seen(), 0);
}

TEST(ChunkedAttentionErrors, BadShapesChangeNothing) {
    const Shape s{4, 2, 8, 6, 8, 40, 0, 60};
    const Text text(s);
    const KVView<const float> q = std::as_const(text.q).view(), k = std::as_const(text.k).view(),
                              v = std::as_const(text.v).view();
    std::vector<float> result(60 * 4 * 6, 7.0F);
    const auto out = KVView<float>::token_major(result.data(), 4, 60, 6);
    auto cache = make_cache<float>(s, LowPass<>());
    ChunkedAttention<float> attention;
    const auto forward = [&](const auto& a, const auto& b, const auto& c, const auto& d) {
        return [&, a, b, c, d] { attention.forward(a, b, c, cache, d); };
    };
    EXPECT_THAT(forward(k, k, v, out), ThrowsMessage<Error>(HasSubstr("heads of q is 2, must be query_heads")));
    EXPECT_THAT(forward(q, q, v, out), ThrowsMessage<Error>(HasSubstr("heads of k is 4")));
    EXPECT_THAT(forward(q, k, k, out), ThrowsMessage<Error>(HasSubstr("head_dim of v is 8")));
    EXPECT_THAT(forward(q.middle_tokens(0, 5), k, v, out), ThrowsMessage<Error>(HasSubstr("tokens of q is 5")));
    EXPECT_THAT(forward(q, k, v.middle_tokens(0, 5), out), ThrowsMessage<Error>(HasSubstr("tokens of v is 5")));
    EXPECT_THAT(forward(q, k, v, out.middle_tokens(0, 5)), ThrowsMessage<Error>(HasSubstr("tokens of out is 5")));
    EXPECT_EQ(cache.tokens_seen(), 0);
    EXPECT_THAT(result, testing::Each(7.0F));
    EXPECT_THAT([] { ChunkedAttention<float>({.scale = -1}); }, ThrowsMessage<Error>(HasSubstr("scale is -1")));
    EXPECT_THROW(ChunkedAttention<float>({.scale = NAN}), Error);
}

// In chunks and by single tokens: the logarithm of the sum of exp(score), from scores of the cache's own keys.
TEST(ChunkedAttention, ReportsTheLogSumOfScores) {
    const Shape s{4, 2, 10, 6, 8, 60, 0, 80};
    const Text text(s);
    for (const Index chunk : {1, 7, 80}) {
        auto cache = make_cache<float>(s, LowPass<>());
        std::vector<float> out(static_cast<std::size_t>(s.tokens * s.query_heads * s.value_dim));
        std::vector<float> sums(static_cast<std::size_t>(s.tokens * s.query_heads), NAN);
        const auto results = KVView<float>::token_major(out.data(), s.query_heads, s.tokens, s.value_dim);
        const MatrixView<float> log_sums(sums.data(), s.query_heads, s.tokens);
        ChunkedAttention<float> attention;
        for (Index t = 0; t < s.tokens; t += chunk) {
            const Index count = std::min(chunk, s.tokens - t);
            attention.forward(text.q.view().middle_tokens(t, count), text.k.view().middle_tokens(t, count),
                              text.v.view().middle_tokens(t, count), cache, results.middle_tokens(t, count),
                              SerialExecutor{}, log_sums.middle_columns(t, count));
        }
        const Index last = s.tokens - 1;
        for (Index h = 0; h < s.query_heads; ++h) {
            const auto query = naive::rotated(naive::row(text.q.view().head(h), last), cache.size() - 1, s.rotary());
            double sum = 0;
            for (Index e = 0; e < cache.size(); ++e) {
                sum += std::exp(naive::dot(query, naive::row(cache.keys(h / 2), e)) / std::sqrt(10.0));
            }
            EXPECT_NEAR(log_sums(h, last), std::log(sum), 1e-5) << "query head " << h << ", chunks of " << chunk;
        }
        for (const float x : sums) ASSERT_FALSE(std::isnan(x)) << "a token has no log-sum, chunks of " << chunk;
    }
}

TEST(ChunkedAttention, RefusesLogSumsOfAnotherShape) {
    const Shape s{4, 2, 10, 6, 8, 60, 0, 5};
    const Text text(s);
    auto cache = make_cache<float>(s, LowPass<>());
    std::vector<float> out(120), sums(20);
    const auto results = KVView<float>::token_major(out.data(), 4, 5, 6);
    const auto forward = [&](MatrixView<float> log_sums) {
        ChunkedAttention<float>().forward(text.q.view(), text.k.view(), text.v.view(), cache, results, SerialExecutor{},
                                          log_sums);
    };
    EXPECT_THAT([&] { forward({sums.data(), 2, 5}); }, ThrowsMessage<Error>(HasSubstr("rows of log_sums is 2")));
    EXPECT_THAT([&] { forward({sums.data(), 4, 4}); }, ThrowsMessage<Error>(HasSubstr("columns of log_sums is 4")));
    EXPECT_EQ(cache.tokens_seen(), 0);
}

}  // namespace
