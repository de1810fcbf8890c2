// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/policy/window_attention.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

// Each selection against its definition over plain vectors, and what every policy of the library promises.
namespace freqkv {
namespace {

using testing_model::append;
using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Text;

constexpr std::size_t kept_first = 3;
constexpr std::size_t kept_latest = 9;

// Scores of the entries between sinks and recent part.
using NaiveScore = std::function<naive::Row(const naive::Cache& cache, std::size_t head, std::size_t length)>;

// The `keep` highest; of equal ones the latest.
std::vector<std::size_t> highest(const naive::Row& scores, std::size_t keep) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; });
    const double gap = scores[order[keep - 1]] - scores[order[keep]];
    EXPECT_TRUE(gap == 0 || gap > 1e-6) << "this text decides too closely; take another seed";
    order.resize(keep);
    std::sort(order.begin(), order.end());
    return order;
}

naive::Cache::Compress selects(const NaiveScore& score) {
    return [=](naive::Cache& cache, const std::vector<std::size_t>& full) {
        for (const std::size_t h : full) {
            const std::size_t length = cache.heads[h].size() - kept_first - kept_latest;
            cache.heads[h].select(kept_first, length, highest(score(cache, h, length), length / 2));
        }
    };
}

template <class P>
void expect_selects(const P& policy, const NaiveScore& score, double decay = 0) {
    const Text text = Text::random(500);
    const CacheOptions options = cache_options(text, 40, kept_first, kept_latest);
    ModelCache model(text, 40, selects(score));
    model.decay = decay;
    expect_as_model(policy, options, text, model);
    expect_chunks_agree<float>(policy, options, text);
    expect_chunks_agree<Eigen::half>(policy, options, text);
    expect_chunks_agree<double>(policy, options, text);
}

naive::Row window_attention(const naive::Cache& cache, std::size_t h, std::size_t length, std::size_t window) {
    naive::Row scores(length);
    for (std::size_t member = 0; member < cache.group(); ++member) {
        const naive::Rows& queries = cache.queries[h * cache.group() + member];
        for (std::size_t back = 1; back <= window; ++back) {
            const naive::Row weights = cache.weights(h, queries[queries.size() - back], cache.heads[h].size() - back);
            for (std::size_t i = 0; i < length; ++i) scores[i] += weights[kept_first + i];
        }
    }
    return scores;
}

naive::Row pooled(const naive::Row& scores, std::size_t pool, Pooling pooling) {
    naive::Row result;
    for (std::size_t i = 0; i < scores.size(); ++i) {
        double largest = 0;
        double sum = 0;
        for (std::size_t j = i < pool / 2 ? 0 : i - pool / 2; j <= i + pool / 2 && j < scores.size(); ++j) {
            largest = std::max(largest, scores[j]);
            sum += scores[j];
        }
        result.push_back(pooling == Pooling::maximum ? largest : sum / static_cast<double>(pool));
    }
    return result;
}

TEST(SnapKv, KeepsWhatTheLatestQueriesLookAt) {
    for (const Index pool : {1, 5}) {
        for (const Pooling pooling : {Pooling::maximum, Pooling::mean}) {
            SCOPED_TRACE("pool " + std::to_string(pool));
            expect_selects(SnapKV<8>(0.5, pool, pooling), [=](const auto& cache, std::size_t h, std::size_t length) {
                return pooled(window_attention(cache, h, length, 8), static_cast<std::size_t>(pool), pooling);
            });
        }
    }
}

TEST(SnapKv, AsksFewerQueriesThanItHasMemoryFor) {
    SnapKV<8> policy(0.5, 1);
    policy.codec.score.latest = 3;
    expect_selects(policy, [](const auto& cache, std::size_t h, std::size_t length) {
        return window_attention(cache, h, length, 3);
    });
    const Text text = Text::random(60);
    for (const Index latest : {0, 9}) {
        policy.codec.score.latest = latest;
        auto cache = make_cache<float>(text, cache_options(text, 40, kept_first, kept_latest), policy);
        EXPECT_THROW(append(cache, text, 0, 60), Error) << latest << " of 8";
    }
}

TEST(SnapKv, RefusesAPoolWithoutAMiddle) {
    const Text text = Text::random(60);
    auto cache = make_cache<float>(text, cache_options(text, 40, kept_first, kept_latest), SnapKV<8>(0.5, 4));
    EXPECT_THROW(append(cache, text, 0, 60), Error);
    EXPECT_EQ(cache.tokens_seen(), 40);
}

TEST(Tova, KeepsWhatTheLatestQueryLooksAt) {
    expect_selects(Tova(), [](const auto& cache, std::size_t h, std::size_t length) {
        return window_attention(cache, h, length, 1);
    });
}

TEST(HeavyHitters, KeepWhatHasBeenLookedAtMost) {
    for (const double decay : {1.0, 0.9}) {
        expect_selects(
            HeavyHitters(0.5, decay),
            [](const auto& cache, std::size_t h, std::size_t length) {
                const naive::Row& mass = cache.heads[h].mass;
                return naive::Row(mass.begin() + kept_first,
                                  mass.begin() + kept_first + static_cast<std::ptrdiff_t>(length));
            },
            decay);
    }
}

TEST(HeavyHitters, CanCompareMeans) {
    for (const double decay : {1.0, 0.95}) {
        expect_selects(
            HeavyHitters(0.5, decay, true),
            [=](const auto& cache, std::size_t h, std::size_t length) {
                const naive::Head& head = cache.heads[h];
                naive::Row scores;
                for (std::size_t i = kept_first; i < kept_first + length; ++i) {
                    double queries = 0;  // since it came, the latest counted whole
                    for (Index age = 0; age < head.tokens - head.first_token[i]; ++age) {
                        queries += std::pow(decay, static_cast<double>(age));
                    }
                    scores.push_back(head.mass[i] / queries);
                }
                return scores;
            },
            decay);
    }
}

TEST(HeavyHitters, SumWhatEachEntryIsGiven) {
    const Text text = Text::random(300);
    auto cache = make_cache<float>(text, cache_options(text, 40, kept_first, kept_latest), HeavyHitters());
    ModelCache model(text, 40, [](naive::Cache& full_cache, const std::vector<std::size_t>& full) {
        selects([](const auto& c, std::size_t h, std::size_t length) {
            const naive::Row& mass = c.heads[h].mass;
            return naive::Row(mass.begin() + kept_first,
                              mass.begin() + kept_first + static_cast<std::ptrdiff_t>(length));
        })(full_cache, full);
    });
    model.decay = 1;
    append(cache, text, 0, text.tokens);
    for (Index t = 0; t < text.tokens; ++t) model.append(text, t);
    for (Index h = 0; h < text.kv_heads; ++h) {
        const std::span<const float> mass = cache.attention_mass(h);
        const naive::Row& want = model.heads[static_cast<std::size_t>(h)].mass;
        ASSERT_EQ(mass.size(), want.size());
        for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(mass[i], want[i], 1e-4) << "entry " << i;
    }
}

TEST(HeavyHitters, SumTheSameWhateverTheThreadsAndTheWindow) {
    const Text text = Text::random(900);
    const CacheOptions options = cache_options(text, 700, kept_first, 300);  // more than one stretch of keys
    for (const Index window : {0, 270}) {
        std::vector<std::vector<float>> sums;
        for (const Index chunk : {900, 1, 64}) {
            for (const unsigned workers : {1U, 3U}) {
                auto cache = make_cache<float>(text, options, HeavyHitters());
                ChunkedAttention<float> attention({.window = window});
                std::vector<float> out(static_cast<std::size_t>(900 * text.query_heads * text.value_dim));
                for (Index done = 0; done < 900; done += chunk) {
                    const Index count = std::min(chunk, 900 - done);
                    const auto view = KVView<float>::token_major(out.data(), text.query_heads, count, text.value_dim);
                    if (workers == 1) {
                        attention.forward(text.queries(done, count), text.keys(done, count), text.values(done, count),
                                          cache, view);
                    } else {
                        attention.forward(text.queries(done, count), text.keys(done, count), text.values(done, count),
                                          cache, view, OpenMPExecutor(static_cast<int>(workers)));
                    }
                }
                const std::span<const float> mass = cache.attention_mass(1);
                sums.emplace_back(mass.begin(), mass.end());
                ASSERT_EQ(sums.back(), sums.front()) << "chunks of " << chunk << ", " << workers << " threads";
            }
        }
    }
}

TEST(HeavyHitters, TakeNothingBack) {
    const Text text = Text::random(60);
    auto cache = make_cache<float>(text, cache_options(text, 40, kept_first, kept_latest), HeavyHitters());
    append(cache, text, 0, 20);
    EXPECT_EQ(cache.earliest_truncation(), 20);
    EXPECT_THROW(cache.truncate(19), Error);
    cache.truncate(20);
    EXPECT_EQ(cache.tokens_seen(), 20);
}

TEST(HeavyHitters, RefuseADecayThatIsNone) {
    const Text text = Text::random(1);
    for (const double decay : {0.0, 1.5, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
        EXPECT_THROW(
            make_cache<float>(text, cache_options(text, 40, kept_first, kept_latest), HeavyHitters(0.5, decay)), Error);
    }
}

double length_of(const naive::Row& x) { return std::sqrt(naive::dot(x, x)); }

TEST(KeyDiff, KeepsTheKeysThatAreLeastLikeTheOthers) {
    expect_selects(KeyDiff(), [](const auto& cache, std::size_t h, std::size_t length) {
        const naive::Head& head = cache.heads[h];
        naive::Rows keys;
        for (std::size_t i = 0; i < head.size(); ++i) keys.push_back(cache.rotated(head.keys[i], i));
        naive::Row mean(keys.front().size());
        for (const naive::Row& key : keys) {
            for (std::size_t d = 0; d < key.size(); ++d) mean[d] += key[d] / length_of(key);
        }
        naive::Row scores;
        for (std::size_t i = 0; i < length; ++i) {
            const naive::Row& key = keys[kept_first + i];
            scores.push_back(-naive::dot(key, mean) / (length_of(key) * length_of(mean)));
        }
        return scores;
    });
}

TEST(KeyNorm, KeepsTheShortestKeys) {
    expect_selects(KeyNorm(), [](const auto& cache, std::size_t h, std::size_t length) {
        naive::Row scores;
        for (std::size_t i = 0; i < length; ++i) scores.push_back(-length_of(cache.heads[h].keys[kept_first + i]));
        return scores;
    });
}

TEST(ValueNorm, KeepsTheLongestValues) {
    expect_selects(ValueNorm(), [](const auto& cache, std::size_t h, std::size_t length) {
        naive::Row scores;
        for (std::size_t i = 0; i < length; ++i) scores.push_back(length_of(cache.heads[h].values[kept_first + i]));
        return scores;
    });
}

TEST(SelectHighest, PutsNaNLastAndOfEqualOnesTheLatestFirst) {
    std::vector<float> scores{1, std::numeric_limits<float>::quiet_NaN(), 2, 1, 1, -7};
    std::vector<Index> chosen(4), order(6);
    detail::choose_highest(scores.data(), 6, 3, chosen.data(), order.data());
    EXPECT_EQ(chosen, (std::vector<Index>{2, 3, 4, 0}));
    detail::choose_highest(scores.data(), 6, 4, chosen.data(), order.data());
    EXPECT_EQ(chosen, (std::vector<Index>{0, 2, 3, 4}));
}

}  // namespace
}  // namespace freqkv
