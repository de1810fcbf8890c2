// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/chunked_attention.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "naive.hpp"
#include "random_tokens.hpp"

// Capped scores and windows: what a query sees, and how its scores become weights.
namespace freqkv {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

struct Shape {
    Index query_heads, kv_heads, key_dim, value_dim, rotated_dims, tokens;
};

struct Text {
    // Scores beyond a cap of 2, so that it matters.
    explicit Text(const Shape& s)
        : q(s.query_heads, s.tokens, s.key_dim, 41),
          k(s.kv_heads, s.tokens, s.key_dim, 42),
          v(s.kv_heads, s.tokens, s.value_dim, 43) {
        const KVView<float> queries = q.view();
        for (Index h = 0; h < queries.heads; ++h) {
            for (Index t = 0; t < queries.tokens; ++t) {
                for (Index d = 0; d < queries.head_dim; ++d) queries.head(h)(t, d) *= 4;
            }
        }
    }
    naive::RandomTokens<float> q, k, v;
};

// Rows of a head, each turned to its place in the text.
naive::Rows rotated_rows(const Shape& s, const MatrixView<const float>& head) {
    const naive::Rotary rotary{.rotated_dims = static_cast<std::size_t>(s.rotated_dims)};
    naive::Rows rows;
    for (Index t = 0; t < s.tokens; ++t) rows.push_back(naive::rotated(naive::row(head, t), t, rotary));
    return rows;
}

// Attention of token t to the tokens (t - window, t].
naive::Row attended(const Shape& s, const naive::Row& query, const naive::Rows& keys,
                    const MatrixView<const float>& values, const AttentionOptions& options, Index t) {
    const Index first = options.window == 0 ? 0 : std::max<Index>(0, t + 1 - options.window);
    naive::Row weights;
    for (Index i = first; i <= t; ++i) {
        double score = naive::dot(query, keys[static_cast<std::size_t>(i)]) / std::sqrt(static_cast<double>(s.key_dim));
        if (options.score_cap > 0) score = options.score_cap * std::tanh(score / options.score_cap);
        weights.push_back(score);
    }
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    naive::Row result(static_cast<std::size_t>(s.value_dim));
    for (Index i = first; i <= t; ++i) {
        const naive::Row value = naive::row(values, i);
        for (std::size_t d = 0; d < result.size(); ++d) {
            result[d] += weights[static_cast<std::size_t>(i - first)] / sum * value[d];
        }
    }
    return result;
}

// Of all heads and tokens, [query_heads, tokens].
naive::Rows attended(const Shape& s, const Text& text, const AttentionOptions& options) {
    naive::Rows results;
    for (Index h = 0; h < s.query_heads; ++h) {
        const Index kv_head = h / (s.query_heads / s.kv_heads);
        const naive::Rows queries = rotated_rows(s, std::as_const(text.q).view().head(h));
        const naive::Rows keys = rotated_rows(s, std::as_const(text.k).view().head(kv_head));
        for (Index t = 0; t < s.tokens; ++t) {
            results.push_back(attended(s, queries[static_cast<std::size_t>(t)], keys,
                                       std::as_const(text.v).view().head(kv_head), options, t));
        }
    }
    return results;
}

template <class U, class P>
void expect_naive(const Shape& s, const Text& text, const AttentionOptions& options, const P& policy, Index capacity,
                  double tolerance) {
    const CacheOptions cache_options{.kv_heads = s.kv_heads,
                                     .query_heads = s.query_heads,
                                     .key_dim = s.key_dim,
                                     .value_dim = s.value_dim,
                                     .capacity = capacity,
                                     .sinks = 0};
    const naive::Rows expected = attended(s, text, options);
    for (const Index chunk : {Index{1}, Index{7}, Index{50}, s.tokens}) {
        SCOPED_TRACE("window " + std::to_string(options.window) + ", cap " + std::to_string(options.score_cap) +
                     ", chunks of " + std::to_string(chunk));
        SinkedKVCache<U, P> cache(cache_options,
                                  Rope<Arithmetic<U>>({.head_dim = s.key_dim, .rotated_dims = s.rotated_dims}), policy);
        naive::RandomTokens<float> out(s.query_heads, s.tokens, s.value_dim, 44);
        ChunkedAttention<float> attention(options);
        for (Index t = 0; t < s.tokens; t += chunk) {
            const Index count = std::min(chunk, s.tokens - t);
            attention.forward(std::as_const(text.q).view().middle_tokens(t, count),
                              std::as_const(text.k).view().middle_tokens(t, count),
                              std::as_const(text.v).view().middle_tokens(t, count), cache,
                              out.view().middle_tokens(t, count));
        }
        for (Index h = 0; h < s.query_heads; ++h) {
            for (Index t = 0; t < s.tokens; ++t) {
                const naive::Row& row = expected[static_cast<std::size_t>(h * s.tokens + t)];
                for (Index d = 0; d < s.value_dim; ++d) {
                    ASSERT_NEAR(row[static_cast<std::size_t>(d)], out.view().head(h)(t, d), tolerance)
                        << "token " << t << ", query head " << h << ", dim " << d;
                }
            }
        }
    }
}

constexpr Shape shapes[] = {{1, 1, 1, 1, 0, 40},  {2, 2, 8, 8, 8, 120},    {4, 2, 16, 12, 16, 100}, {3, 3, 5, 1, 2, 60},
                            {40, 1, 4, 4, 4, 50}, {2, 1, 17, 33, 16, 300}, {5, 1, 40, 80, 40, 70}};

TEST(ScoreCap, IsOfTheScoresBeforeTheSoftmax) {
    for (const Shape& s : shapes) {
        const Text text(s);
        expect_naive<float>(s, text, {.score_cap = 2}, Full{}, 0, 2e-5);
        expect_naive<double>(s, text, {.score_cap = 0.7}, Full{}, 0, 1e-6);
        expect_naive<Eigen::half>(s, text, {.score_cap = 2}, Full{}, 0, 1e-2);
    }
}

TEST(Window, IsOfTheLatestEntries) {
    for (const Shape& s : shapes) {
        const Text text(s);
        for (const Index window : {Index{1}, Index{2}, Index{9}, Index{33}, s.tokens - 1, s.tokens, 2 * s.tokens}) {
            expect_naive<float>(s, text, {.window = window}, Full{}, 0, 3e-5);
        }
        expect_naive<float>(s, text, {.score_cap = 2, .window = 20}, Full{}, 0, 3e-5);
    }
}

// A bounded cache that keeps the window at each of its compressions does the same: nothing is lost.
TEST(Window, IsExactInABoundedCache) {
    for (const Shape& s : shapes) {
        const Text text(s);
        for (const Index window : {1, 2, 9, 33}) {
            for (const Index slack : {1, 5, 32}) {
                if (window + slack < 2) continue;
                const double ratio = (static_cast<double>(window) + 0.5) / static_cast<double>(window + slack);
                if (ratio >= 1) continue;
                expect_naive<float>(s, text, {.window = window}, LocalWindow(ratio), window + slack, 5e-5);
                expect_naive<double>(s, text, {.score_cap = 2, .window = window}, LocalWindow(ratio), window + slack,
                                     1e-6);
            }
        }
    }
}

// Around the keys of one stretch (256) and of one block (128).
TEST(Window, IsRightAroundTheSizesOfBlocks) {
    const Shape s{2, 1, 4, 4, 4, 600};
    const Text text(s);
    for (const Index window : {127, 128, 129, 255, 256, 257}) {
        expect_naive<float>(s, text, {.window = window}, LocalWindow((static_cast<double>(window) + 0.5) / 300), 300,
                            5e-5);
    }
}

TEST(ScoreCap, TakesScoresOfAnySize) {
    const auto capped = [](float score, float cap) {
        return detail::capped<float>(detail::Lanes<float>{} + score, cap)[0];
    };
    for (const float cap : {0.5F, 1.0F, 30.0F, 50.0F}) {
        for (float score = -1000; score <= 1000; score += 0.37F) {
            const double expected = static_cast<double>(cap) * std::tanh(static_cast<double>(score) / cap);
            ASSERT_NEAR(capped(score, cap), expected, 3e-7 * static_cast<double>(cap)) << score;
        }
        EXPECT_EQ(capped(0, cap), 0);
        EXPECT_EQ(capped(std::numeric_limits<float>::max(), cap), cap);
        EXPECT_EQ(capped(std::numeric_limits<float>::lowest(), cap), -cap);
    }
}

TEST(AttentionOptionsTest, RefusesWhatIsOutOfRange) {
    const auto make = [](const AttentionOptions& options) {
        return [=] { ChunkedAttention<float> attention(options); };
    };
    EXPECT_THAT(make({.score_cap = -1}), ThrowsMessage<Error>(HasSubstr("score_cap")));
    EXPECT_THAT(make({.score_cap = NAN}), ThrowsMessage<Error>(HasSubstr("score_cap")));
    EXPECT_THAT(make({.score_cap = INFINITY}), ThrowsMessage<Error>(HasSubstr("score_cap")));
    EXPECT_THAT(make({.window = -1}), ThrowsMessage<Error>(HasSubstr("window")));
}

}  // namespace
}  // namespace freqkv
