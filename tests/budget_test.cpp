// SPDX-License-Identifier: MIT
#include "freqkv/budget.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "message_of.hpp"

namespace freqkv {
namespace {

using test::message_of;
using testing::HasSubstr;

Index sum(const std::vector<Index>& shares) { return std::accumulate(shares.begin(), shares.end(), Index{0}); }

// Largest remainders in whole numbers, one entry at a time.
std::vector<Index> naive_shares(Index total, const std::vector<Index>& weights, Index floor) {
    const auto heads = static_cast<Index>(weights.size());
    const Index above = total - heads * floor;
    const Index all = sum(weights);
    std::vector<Index> shares(weights.size());
    std::vector<Index> remainders(weights.size());
    for (std::size_t h = 0; h < weights.size(); ++h) {
        shares[h] = floor + above * weights[h] / all;
        remainders[h] = above * weights[h] % all;
    }
    while (sum(shares) < total) {
        const auto first = std::max_element(remainders.begin(), remainders.end());
        ++shares[static_cast<std::size_t>(first - remainders.begin())];
        *first = -1;
    }
    return shares;
}

TEST(Budget, SharesAsWholeNumbersDo) {
    std::mt19937 random(5);
    for (int trial = 0; trial < 2000; ++trial) {
        const std::size_t heads = 1 + random() % 40;
        // A sum that is a power of two keeps the quotients exact, so that ties are ties in both.
        std::vector<Index> weights(heads);
        for (Index& weight : weights) weight = static_cast<Index>(random() % 50);
        const auto power = [](Index value) {
            Index result = 1;
            while (result < value) result *= 2;
            return result;
        };
        const Index rest = sum(weights) - weights[0];
        weights[0] = power(rest + 1 + static_cast<Index>(random() % 50)) - rest;
        // Scaled by the largest weight, shares are quotients: only a largest that is a power of two keeps them exact.
        const bool exact = power(*std::max_element(weights.begin(), weights.end())) ==
                           *std::max_element(weights.begin(), weights.end());
        const auto floor = static_cast<Index>(random() % 20);
        const Index total = static_cast<Index>(heads) * floor + static_cast<Index>(random() % 10000);
        const std::vector<Index> shares =
            share_entries(total, std::vector<double>(weights.begin(), weights.end()), floor);
        const std::vector<Index> naive = naive_shares(total, weights, floor);
        EXPECT_EQ(sum(shares), total);
        if (exact) {
            EXPECT_EQ(shares, naive);
        }
        for (std::size_t h = 0; h < heads; ++h) {
            EXPECT_LE(std::abs(shares[h] - naive[h]), 1) << "heads that tie may take the last entry from each other";
            EXPECT_GE(shares[h], floor);
            for (std::size_t other = 0; other < heads; ++other) {
                if (weights[h] > weights[other]) {
                    EXPECT_GE(shares[h], shares[other]);
                }
            }
        }
    }
}

TEST(Budget, SharesAreExactWhateverTheSizes) {
    constexpr double huge = std::numeric_limits<double>::max();
    constexpr double tiny = std::numeric_limits<double>::denorm_min();
    for (const std::vector<double>& weights : {std::vector<double>(7, 1.0),
                                               std::vector<double>(1000, huge),
                                               std::vector<double>(3, tiny),
                                               {huge, tiny, 0},
                                               {0.1, 0.2, 0.3, 0.4},
                                               {0, 0, 1}}) {
        const auto heads = static_cast<Index>(weights.size());
        for (const Index total : {heads * 3, heads * 3 + 1, heads * 4 - 1, Index{1} << 40, Index{1} << 53}) {
            const std::vector<Index> shares = share_entries(total, weights, 3);
            EXPECT_EQ(sum(shares), total);
            EXPECT_GE(*std::min_element(shares.begin(), shares.end()), 3);
        }
    }
    EXPECT_EQ(share_entries(11, std::vector<double>(4, 0.25), 2), (std::vector<Index>{3, 3, 3, 2})) << "earlier first";
    EXPECT_EQ(share_entries(100, std::vector<double>{0, 1}, 10), (std::vector<Index>{10, 90}));
    EXPECT_EQ(share_entries(8, std::vector<double>{1, 5}, 4), (std::vector<Index>{4, 4}))
        << "the floors are all there is";
}

// Water that is poured in parts until every head is full or nothing is left.
std::vector<double> naive_shares_below(double left, std::vector<double> weights, double floor, double ceiling) {
    std::vector<double> shares(weights.size(), floor);
    std::vector<bool> full(weights.size());
    left -= floor * static_cast<double>(weights.size());
    while (left > 1e-9) {
        double sum = 0;
        for (std::size_t h = 0; h < weights.size(); ++h) sum += full[h] ? 0 : weights[h];
        if (sum == 0) {
            std::fill(weights.begin(), weights.end(), 1.0);
            continue;
        }
        double poured = 0;
        for (std::size_t h = 0; h < weights.size(); ++h) {
            if (full[h]) continue;
            const double part = std::min(left * weights[h] / sum, ceiling - shares[h]);
            shares[h] += part;
            poured += part;
            full[h] = shares[h] >= ceiling - 1e-9;
        }
        left -= poured;
    }
    return shares;
}

TEST(Budget, NoHeadGetsMoreThanTheCeiling) {
    std::mt19937 random(5);
    for (int round = 0; round < 300; ++round) {
        const std::size_t heads = 1 + random() % 12;
        std::vector<double> weights(heads);
        for (double& weight : weights) weight = random() % 3 == 0 ? 0 : static_cast<double>(random() % 1000);
        weights[random() % heads] = 700;
        const auto floor = static_cast<Index>(random() % 20);
        const auto ceiling = floor + static_cast<Index>(random() % 300);
        const Index room = static_cast<Index>(heads) * (ceiling - floor);
        const Index total = static_cast<Index>(heads) * floor + static_cast<Index>(random()) % (room + 1);
        const std::vector<Index> shares = share_entries(total, weights, floor, ceiling);
        const std::vector<double> naive = naive_shares_below(static_cast<double>(total), weights,
                                                             static_cast<double>(floor), static_cast<double>(ceiling));
        EXPECT_EQ(sum(shares), total);
        for (std::size_t h = 0; h < heads; ++h) {
            EXPECT_LE(shares[h], ceiling);
            EXPECT_NEAR(static_cast<double>(shares[h]), naive[h], 1 + 1e-6) << "head " << h << " of " << heads;
        }
    }
    EXPECT_EQ(share_entries(100, std::vector<double>{0, 1, 0}, 10, 40), (std::vector<Index>{30, 40, 30}));
    EXPECT_EQ(share_entries(100, std::vector<double>{1, 8, 3}, 10, 40), (std::vector<Index>{20, 40, 40}));
}

TEST(Budget, RefusesWhatCannotBeMet) {
    EXPECT_THAT(message_of([] { share_entries(100, std::vector<double>{1, 1, 1}, 10, 33); }),
                HasSubstr("ceiling of a head is 33, must be at least the budget divided by the number of heads"));
    const auto message = [](Index total, const std::vector<double>& weights, Index floor) {
        return message_of([&] { share_entries(total, weights, floor); });
    };
    EXPECT_EQ(message(59, {1, 1, 1}, 20),
              "freqkv: budget in entries is 59, must be at least the floor times the number of heads");
    EXPECT_THAT(message(10, {}, 1), HasSubstr("number of weights is 0"));
    EXPECT_THAT(message(10, {1, -1}, 1), HasSubstr("weight of a head is -1"));
    EXPECT_THAT(message(10, {1, NAN}, 1), HasSubstr("weight of a head is nan, must be finite"));
    EXPECT_THAT(message(10, {0, 0}, 1), HasSubstr("sum of the weights is 0"));
    EXPECT_THAT(message(10, {1}, -1), HasSubstr("floor of a head is -1"));
    EXPECT_THAT(message(-1, {1}, 0), HasSubstr("budget in entries is -1"));
    EXPECT_THAT(message((Index{1} << 53) + 1, {1}, 0), HasSubstr("at most 2^53"));
    EXPECT_THAT(message(std::numeric_limits<Index>::max() / 2, {1, 1}, std::numeric_limits<Index>::max()),
                HasSubstr("budget in entries"));
    EXPECT_THAT(message_of([] { pyramid_weights(0); }), HasSubstr("number of layers is 0"));
    EXPECT_THAT(message_of([] { pyramid_weights(3, 0.5); }), HasSubstr("beta is 0.5"));
    EXPECT_THAT(message_of([] { pyramid_weights(3, INFINITY); }), HasSubstr("beta is inf"));
}

// As PyramidKV's code has it: min = mean / beta, max = 2 mean - min, and steps of (max - min) / (layers - 1).
TEST(Budget, PyramidIsALineOfMeanOne) {
    for (const double beta : {1.0, 2.0, 20.0, 1e6}) {
        for (const Index layers : {1, 2, 3, 30, 81}) {
            const std::vector<double> weights = pyramid_weights(layers, beta);
            ASSERT_EQ(weights.size(), static_cast<std::size_t>(layers));
            EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0) / static_cast<double>(layers), 1, 1e-12);
            if (layers == 1) continue;
            const double least = 1 / beta;
            const double most = 2 - least;
            for (Index l = 0; l < layers; ++l) {
                const double step = (most - least) / static_cast<double>(layers - 1);
                EXPECT_NEAR(weights[static_cast<std::size_t>(l)], most - static_cast<double>(l) * step, 1e-12);
            }
        }
    }
    const std::vector<Index> line = share_entries(5 * 100, pyramid_weights(5), 20);
    EXPECT_EQ(sum(line), 500);
    EXPECT_EQ(line.front(), 176) << "20 + 80 * 1.95";
    EXPECT_EQ(line.back(), 24);
    EXPECT_TRUE(std::is_sorted(line.rbegin(), line.rend()));
}

// Bytes become entries as the caches' memory() counts them.
template <class T, class P>
void expect_met(Index bytes, Index bookkeeping, const P& policy) {
    const EntryCost cost{24, 16, sizeof(T), bookkeeping};
    CacheOptions options{.kv_heads = 4, .query_heads = 8, .key_dim = 24, .value_dim = 16, .recent = 3};
    options.head_capacities = share_entries(entries_within(bytes, cost), std::vector<double>{5, 1, 0, 2}, 9);
    const SinkedKVCache<T, P> cache(options, Rope<Arithmetic<T>>(RopeOptions{.head_dim = 24}, 64), policy);
    const CacheMemory memory = cache.memory();
    const Index held = memory.entries() + memory.bookkeeping;
    EXPECT_LE(held, bytes);
    EXPECT_GT(held, bytes - cost.bytes()) << "within one entry";
    for (Index h = 0; h < 4; ++h) {
        EXPECT_EQ(cache.capacity(h), options.head_capacities[static_cast<std::size_t>(h)]);
    }
}

TEST(Budget, IsWhatMemoryReports) {
    for (const Index bytes : {20000, 20001, 20175, 65536}) {
        expect_met<float>(bytes, sizeof(TokenRange), LowPass<>());
        expect_met<double>(bytes, sizeof(TokenRange), LowPass<>());
        expect_met<BFloat16>(bytes, sizeof(TokenRange), LowPass<>());
        expect_met<float>(bytes, sizeof(TokenRange) + sizeof(float), HeavyHitters());
    }
    EXPECT_EQ((EntryCost{64, 0, 2, 16}.bytes()), 2 * 64 * 2 + 16);
}

TEST(Budget, RefusesBytesOfNoEntry) {
    EXPECT_EQ(message_of([] { entries_within(527, {64}); }),
              "freqkv: budget in bytes is 527, must be at least one entry's bytes");
    EXPECT_EQ(entries_within(528, {64}), 1);
    EXPECT_THAT(message_of([] { entries_within(1000, {0}); }), HasSubstr("key_dim is 0"));
    EXPECT_THAT(message_of([] { entries_within(1000, {8, -1}); }), HasSubstr("value_dim is -1"));
    EXPECT_THAT(message_of([] { entries_within(1000, {8, 8, 0}); }), HasSubstr("element_bytes is 0"));
    EXPECT_THAT(message_of([] { entries_within(1000, {8, 8, 4, -1}); }), HasSubstr("bookkeeping is -1"));
    EXPECT_THAT(message_of([] { entries_within(1000, {std::numeric_limits<Index>::max()}); }),
                HasSubstr("bytes of a key is over 2^63"));
}

}  // namespace
}  // namespace freqkv
