// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "binary_tiers.hpp"
#include "freqkv/policy/binary_tiers.hpp"
#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/window_attention.hpp"
#include "message_of.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

// Keys and queries at the positions of the text.
namespace freqkv {
namespace {

using test::message_of;
using testing::HasSubstr;
using testing_model::append;
using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Text;

CacheOptions text_options(const Text& text, Index capacity, Index sinks, Index recent) {
    CacheOptions options = cache_options(text, capacity, sinks, recent);
    options.positions = Positions::text;
    return options;
}

template <class P>
void expect_text_positions(const P& policy, naive::CompressSpan compress, bool weighted = false) {
    const Text text = Text::random(400);
    CacheOptions options = text_options(text, 48, 4, 9);
    options.weighted = weighted;
    ModelCache model(text, 48, naive::whole_span(4, 9, 0.4, compress));
    model.text_positions = true;
    model.weighted = weighted;
    expect_as_model(policy, options, text, model);
    expect_chunks_agree<float>(policy, options, text);
    expect_chunks_agree<Eigen::half>(policy, options, text);
}

TEST(TextPositions, AreTheMiddlesOfTheTokensThatAreTransformed) {
    expect_text_positions(LowPass<>(0.4), &naive::Head::low_pass);
}

TEST(TextPositions, StayWithWhatIsSelected) { expect_text_positions(LocalWindow(0.4), &naive::Head::select_latest); }

TEST(WeightedEntries, CountAsOftenAsTheyStandForTokens) {
    expect_text_positions(LowPass<>(0.4), &naive::Head::low_pass, true);
    expect_text_positions(LocalWindow(0.4), &naive::Head::select_latest, true);
}

// Every token counts, through however many compressions.
TEST(WeightedEntries, HaveTheWeightOfTheText) {
    const Text text = Text::random(700);
    CacheOptions options = text_options(text, 48, 4, 9);
    const auto plain = make_cache<float>(text, options, LowPass<>());
    EXPECT_EQ(plain.weights(0).size(), 0u);
    options.weighted = true;
    auto cache = make_cache<float>(text, options, LowPass<>());
    append(cache, text, 0, text.tokens);
    const std::span<const float> weights = cache.weights(1);
    ASSERT_EQ(weights.size(), static_cast<std::size_t>(cache.size(1)));
    EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 700, 1e-3);
    for (const std::size_t exact : {std::size_t{0}, std::size_t{3}, weights.size() - 1, weights.size() - 9}) {
        EXPECT_EQ(weights[exact], 1) << "a sink or of the recent part, entry " << exact;
    }
    EXPECT_GT(weights[4], weights[20]) << "what is older stands for more";
    EXPECT_EQ(cache.memory().bookkeeping,
              plain.memory().bookkeeping + 2 * text.kv_heads * 48 * static_cast<Index>(sizeof(float)));
    options.positions = Positions::index;
    EXPECT_THAT(message_of([&] { make_cache<float>(text, options, LowPass<>()); }),
                HasSubstr("weighted is 1, must be false without Positions::text"));
}

// Queries that choose see weights, too.
TEST(WeightedEntries, AreSeenByWhatChooses) {
    const Text text = Text::random(400);
    CacheOptions options = text_options(text, 48, 3, 9);
    options.weighted = true;
    expect_chunks_agree<float>(ExactAndLowPass<WindowAttention<8>>(), options, text);
    expect_chunks_agree<float>(ExactAndLowPass<AccumulatedAttention>(), options, text);
}

TEST(TextPositions, LeaveChosenKeysAsTheyWere) {
    const Text text = Text::random(300);
    auto cache = make_cache<float>(text, text_options(text, 48, 4, 9), SnapKV<8>(0.4, 1));
    std::vector<std::vector<float>> keys;  // of head 1, by token
    for (Index t = 0; t < text.tokens; ++t) {
        append(cache, text, t, 1);
        const float* const key = cache.keys(1).row(cache.size(1) - 1);
        keys.emplace_back(key, key + text.key_dim);
    }
    EXPECT_GT(cache.compressions(1), 8);
    for (Index i = 0; i < cache.size(1); ++i) {
        const float* const key = cache.keys(1).row(i);
        EXPECT_EQ(std::vector<float>(key, key + text.key_dim),
                  keys[static_cast<std::size_t>(cache.entry_tokens(1, i).begin)])
            << "entry " << i;
    }
}

// The queries of SnapKV are asked where they were; naive_cache has its weights.
TEST(TextPositions, AreThoseOfTheQueriesThatChoose) {
    const Text text = Text::random(400);
    const CacheOptions options = text_options(text, 40, 3, 9);
    ModelCache model(text, 40, [](naive::Cache& cache, const std::vector<std::size_t>& full) {
        for (const std::size_t h : full) {
            const std::size_t length = cache.heads[h].size() - 3 - 9;
            naive::Row scores(length);
            for (std::size_t member = 0; member < cache.group(); ++member) {
                const naive::Row weights =
                    cache.weights(h, cache.queries[h * cache.group() + member].back(), cache.heads[h].size() - 1);
                for (std::size_t i = 0; i < length; ++i) scores[i] += weights[3 + i];
            }
            std::vector<std::size_t> order(length);
            for (std::size_t i = 0; i < length; ++i) order[i] = i;
            std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
            order.resize(length / 2);
            std::sort(order.begin(), order.end());
            cache.heads[h].select(3, length, order);
        }
    });
    model.text_positions = true;
    expect_as_model(Tova(), options, text, model);
}

TEST(TextPositions, HoldForHeadsOfDifferentCapacity) {
    const Text text = Text::random(400);
    CacheOptions options = text_options(text, 60, 3, 9);
    options.head_capacities = {40, 60};
    options.weighted = true;
    expect_chunks_agree<float>(LowPass<>(), options, text);
    auto ragged = make_cache<float>(text, options, LowPass<>());
    append(ragged, text, 0, text.tokens);
    for (const Index h : {0, 1}) {
        options.head_capacities = {h == 0 ? 40 : 60, h == 0 ? 40 : 60};
        auto even = make_cache<float>(text, options, LowPass<>());
        append(even, text, 0, text.tokens);
        test::expect_same_rows(ragged.keys(h), even.keys(h), "keys of head " + std::to_string(h));
    }
}

TEST(TextPositions, HoldForSeveralSpans) {
    const Text text = Text::random(600);
    expect_chunks_agree<float>(TieredLowPass<>(3), text_options(text, 60, 3, 5), text);
    ModelCache model(text, 60, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            policy_test::compress_tiers(cache.heads[h], 3, 5, 4, 3,
                                        [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep) {
                                            head.low_pass(begin, length, keep);
                                        });
        }
    });
    model.text_positions = true;
    TieredLowPass<> policy(3);
    policy.schedule.block = 4;
    expect_as_model(policy, text_options(text, 60, 3, 5), text, model);
}

TEST(TextPositions, AskForARopeInHalfSteps) {
    const Text text = Text::random(1);
    const Rope<float> rope(testing_model::rope_options(text), 48);
    EXPECT_THAT(message_of([&] { SinkedKVCache<float, LowPass<>>(text_options(text, 48, 4, 9), rope); }),
                HasSubstr("steps of the rope is 1, must be 2 with Positions::text"));
    EXPECT_THAT(
        message_of([&] { SinkedKVCache<float, LowPass<>>(cache_options(text, 48, 4, 9), rope.in_half_steps(48)); }),
        HasSubstr("steps of the rope is 2"));
    EXPECT_THAT(message_of([&] { (void)rope.in_half_steps(48).in_half_steps(1); }), HasSubstr("must be 1"));
    std::vector<float> a(8), b(8);
    const float* const whole = rope.angles(7, a.data());
    const Rope<float> half_steps = rope.in_half_steps(10);
    const float* const halves = half_steps.angles(14, b.data());
    for (Index i = 0; i < 2 * rope.pairs(); ++i) EXPECT_FLOAT_EQ(whole[i], halves[i]);
}

}  // namespace
}  // namespace freqkv
