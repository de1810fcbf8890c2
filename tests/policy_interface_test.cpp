// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "binary_tiers.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

// The policy interface carries what comes later: policies as a user would write them, through the unchanged cache and
// attention, each against the same rule told once more over plain vectors.
namespace freqkv::policy_test {
namespace {

using testing_model::append;
using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Of;
using testing_model::Text;

struct SelectEverySecond {
    template <class T>
    Index select(const SpanReader<T>&, Index keep, Index* chosen, std::byte*) const {
        for (Index i = 0; i < keep; ++i) chosen[i] = 2 * i + 1;
        return keep;
    }
};

TEST(PolicyInterface, CarriesTieredLowPass) {
    const Text text = Text::random(700);
    for (const std::size_t tiers : {2U, 9U}) {
        SCOPED_TRACE("tiers: " + std::to_string(tiers));
        const Of<BinaryTiers, FrequencyCodec<>> policy{{2, static_cast<Index>(tiers)}, {}};
        const CacheOptions options = cache_options(text, 50, 4, 3);
        ModelCache model(text, 50, [&](naive::Cache& cache, const auto& full) {
            for (const std::size_t h : full) {
                compress_tiers(cache.heads[h], 4, 3, 2, tiers,
                               [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep) {
                                   head.low_pass(begin, length, keep);
                               });
            }
        });
        expect_as_model(policy, options, text, model);
        expect_chunks_agree<float>(policy, options, text);
        expect_chunks_agree<Eigen::half>(policy, options, text);
    }
}

TEST(PolicyInterface, CarriesTieredSelection) {
    const Text text = Text::random(500);
    const Of<BinaryTiers, SelectEverySecond> policy{{3, 4}, {}};
    const CacheOptions options = cache_options(text, 48, 2, 0);
    ModelCache model(text, 48, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            compress_tiers(cache.heads[h], 2, 0, 3, 4,
                           [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t) {
                               head.select(begin, length, {1, 3, 5});
                           });
        }
    });
    expect_as_model(policy, options, text, model);
    expect_chunks_agree<float>(policy, options, text);
    expect_chunks_agree<Eigen::half>(policy, options, text);
}

TEST(PolicyInterface, TiersForgetWithTheLogarithmOfAge) {
    const Index block = 2;
    const Text text = Text::random(2000);
    auto tiered =
        make_cache<float>(text, cache_options(text, 64, 4, 0), Of<BinaryTiers, FrequencyCodec<>>{{block, 12}, {}});
    append(tiered, text, 0, text.tokens);
    Index next = 0;
    Index most = 0;
    for (Index i = 0; i < tiered.size(); ++i) {
        const TokenRange tokens = tiered.entry_tokens(0, i);
        ASSERT_EQ(tokens.begin, next) << "entries stand for the whole text, in order";
        next = tokens.end;
        const double compresses = std::log2(tokens.end - tokens.begin);
        ASSERT_EQ(compresses, std::floor(compresses)) << "an entry compressed n times stands for 2^n tokens";
        const double age = static_cast<double>(text.tokens - tokens.begin);
        EXPECT_LE(compresses, std::max(0.0, std::log2(age / static_cast<double>(block)))) << "entry " << i;
        most = std::max(most, static_cast<Index>(compresses));
    }
    EXPECT_EQ(next, text.tokens);
    EXPECT_GE(most, 7);
    EXPECT_GT(tiered.compressions(), 200) << "so often would a token have been compressed without tiers";
}

// 2. A selection by what the latest queries look for: each entry's score is the sum of q . k, both rotated
// as attention would, over the window and the group's heads.
struct SelectByLatestQueries {
    static constexpr Index query_window = 8;

    template <class T>
    Index scratch_bytes(const SpanReader<T>& span, Index /*keep*/) const {
        return span.size() * static_cast<Index>(sizeof(Index)) +
               (span.size() + 3 * span.key_dim()) * static_cast<Index>(sizeof(Arithmetic<T>));
    }

    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        using C = Arithmetic<T>;
        auto* const order = reinterpret_cast<Index*>(scratch);
        auto* const scores = reinterpret_cast<C*>(order + span.size());
        C* const key = scores + span.size();
        C* const query = key + span.key_dim();
        C* const angles = query + span.key_dim();
        const auto& queries = span.queries();
        std::fill_n(scores, span.size(), C{0});
        for (Index token = 0; token < queries.tokens(); ++token) {
            const Index position = span.list_size() - queries.tokens() + token;
            for (Index member = 0; member < queries.heads; ++member) {
                span.rope()->turn(queries.query(token, member), 1, query, 1, span.rope()->angles(position, angles));
                for (Index i = 0; i < span.size(); ++i) {
                    span.load_stored_key(i, key);
                    scores[i] = std::inner_product(key, key + span.key_dim(), query, scores[i]);
                }
            }
        }
        std::iota(order, order + span.size(), Index{0});
        std::nth_element(order, order + keep, order + span.size(),
                         [&](Index a, Index b) { return scores[a] > scores[b]; });
        std::sort(order, order + keep);
        std::copy_n(order, keep, chosen);
        return keep;
    }
};

TEST(PolicyInterface, CarriesSelectionByLatestQueries) {
    const Text text = Text::random(600);
    const std::size_t sinks = 2;
    const std::size_t recent = 9;
    const CacheOptions options = cache_options(text, 40, 2, 9);
    ModelCache model(text, 40, [&](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            naive::Head& head = cache.heads[h];
            const std::size_t length = head.size() - sinks - recent;
            const std::size_t keep = length / 2;
            naive::Row scores(length);
            for (std::size_t member = 0; member < cache.group(); ++member) {
                const naive::Rows& queries = cache.queries[h * cache.group() + member];
                for (std::size_t back = 1; back <= 8; ++back) {
                    const naive::Row query = cache.rotated(queries[queries.size() - back], head.size() - back);
                    for (std::size_t i = 0; i < length; ++i) {
                        scores[i] += naive::dot(query, cache.rotated(head.keys[sinks + i], sinks + i));
                    }
                }
            }
            naive::Row sorted = scores;
            std::sort(sorted.begin(), sorted.end(), std::greater<>());
            ASSERT_GT(sorted[keep - 1] - sorted[keep], 1e-4) << "this text decides too closely; take another seed";
            std::vector<std::size_t> chosen;
            for (std::size_t i = 0; i < length; ++i) {
                if (scores[i] >= sorted[keep - 1]) chosen.push_back(i);
            }
            head.select(sinks, length, chosen);
        }
    });
    const Of<WholeSpan, SelectByLatestQueries> policy;
    expect_as_model(policy, options, text, model);
    expect_chunks_agree<float>(policy, options, text);
    expect_chunks_agree<Eigen::half>(policy, options, text);
    expect_chunks_agree<double>(policy, options, text);
}

}  // namespace
}  // namespace freqkv::policy_test
