// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

#include "binary_tiers.hpp"
#include "freqkv/in_place.hpp"
#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/policy/residual_energy.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

// Some entries stay as they are, the others of a span are transformed, and all keep their order.
namespace freqkv {
namespace {

using policy_test::compress_tiers;
using testing_model::append;
using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Of;
using testing_model::Text;

double loudness(const naive::Row& value) { return naive::dot(value, value); }

// The `exact` entries that score highest, with the longest values unless said otherwise, stay, the others go through a
// low-pass; row k of it stands where the middle of its part of them stood.
void keep_some(naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep, std::size_t exact,
               naive::Row scores = {}) {
    struct Item {
        std::size_t place;
        naive::Row key, value;
        Index first_token, last_token;
        double mass, weight;
    };
    std::vector<std::size_t> order(length);
    std::iota(order.begin(), order.end(), begin);
    if (scores.empty()) {
        for (const std::size_t i : order) scores.push_back(loudness(head.values[i]));
    }
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return scores[a - begin] > scores[b - begin]; });
    std::vector<std::size_t> others(order.begin() + static_cast<std::ptrdiff_t>(exact), order.end());
    std::sort(others.begin(), others.end());
    std::vector<Item> items;
    for (std::size_t i = 0; i < exact; ++i) {
        const std::size_t e = order[i];
        items.push_back(
            {e, head.keys[e], head.values[e], head.first_token[e], head.last_token[e], head.mass[e], head.weights[e]});
    }
    naive::Rows keys, values;
    for (const std::size_t i : others) {
        keys.push_back(head.keys[i]);
        values.push_back(head.values[i]);
    }
    const std::size_t rows = keep - exact;
    const naive::Rows new_keys = naive::low_passed(keys, rows);
    const naive::Rows new_values = naive::low_passed(values, rows);
    for (std::size_t k = 0; k < rows; ++k) {
        const std::size_t first = k * others.size() / rows;
        const std::size_t end = (k + 1) * others.size() / rows;
        double mass = 0, weight = 0;
        for (std::size_t i = first; i < end; ++i) {
            mass += head.mass[others[i]];
            weight += head.weights[others[i]];
        }
        items.push_back({others[(first + end) / 2], new_keys[k], new_values[k], head.first_token[others[first]],
                         head.last_token[others[end - 1]], mass, weight});
    }
    std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.place < b.place; });
    std::vector<std::size_t> all(keep);
    std::iota(all.begin(), all.end(), std::size_t{0});
    head.select(begin, length, all);  // as many entries, which are then replaced
    for (std::size_t i = 0; i < keep; ++i) {
        head.keys[begin + i] = items[i].key;
        head.values[begin + i] = items[i].value;
        head.first_token[begin + i] = items[i].first_token;
        head.last_token[begin + i] = items[i].last_token;
        head.mass[begin + i] = items[i].mass;
        head.weights[begin + i] = items[i].weight;
    }
}

TEST(KeepSome, KeepsTheBestAndTransformsTheOthers) {
    const Text text = Text::random(400);
    const std::size_t sinks = 3;
    for (const std::size_t recent : {std::size_t{0}, std::size_t{7}}) {
        for (const double share : {0.0, 0.3, 0.5, 0.95}) {
            SCOPED_TRACE("share " + std::to_string(share));
            CacheOptions options = cache_options(text, 48, 3, static_cast<Index>(recent));
            if (share == 0.3) {
                options.positions = Positions::text;
                options.weighted = recent > 0;
            }
            ModelCache model(text, 48, [&](naive::Cache& cache, const auto& full) {
                for (const std::size_t h : full) {
                    const std::size_t length = 48 - sinks - recent;
                    const auto keep = static_cast<std::size_t>(0.4 * static_cast<double>(length));
                    keep_some(cache.heads[h], sinks, length, keep,
                              std::min(keep - 1, static_cast<std::size_t>(share * static_cast<double>(keep))));
                }
            });
            model.text_positions = options.positions == Positions::text;
            model.weighted = options.weighted;
            const ExactAndLowPass<LongValues> policy(0.4, share);
            expect_as_model(policy, options, text, model);
            expect_chunks_agree<float>(policy, options, text);
            expect_chunks_agree<Eigen::half>(policy, options, text);
            expect_chunks_agree<double>(policy, options, text);
        }
    }
}

TEST(KeepSome, WorksInSeveralSpansAtOnce) {
    const Text text = Text::random(500);
    const Of<BinaryTiers, KeepSome<LongValues>> policy{{4, 3}, {}};
    ModelCache model(text, 60, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            compress_tiers(cache.heads[h], 3, 5, 4, 3,
                           [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep) {
                               keep_some(head, begin, length, keep, keep / 2);
                           });
        }
    });
    expect_as_model(policy, cache_options(text, 60, 3, 5), text, model);
    expect_chunks_agree<float>(policy, cache_options(text, 60, 3, 5), text);
}

// Of each row, what is above the k lowest frequencies of its column, as a part of the energy of all rows.
naive::Row residuals(const naive::Rows& rows, std::size_t k) {
    naive::Rows spectrum = naive::dct(rows);
    for (std::size_t f = 0; f < k; ++f) std::fill(spectrum[f].begin(), spectrum[f].end(), 0.0);
    naive::Row scores;
    double total = 0;
    for (const naive::Row& row : naive::inverse_dct(spectrum)) scores.push_back(loudness(row));
    for (const naive::Row& row : rows) total += loudness(row);
    for (double& score : scores) score /= total;
    return scores;
}

TEST(KeepSome, GoesByWhatItsTransformLoses) {
    const Text text = Text::random(400);
    for (const double share : {0.2, 0.6}) {
        SCOPED_TRACE("share " + std::to_string(share));
        const CacheOptions options = cache_options(text, 48, 3, 7);
        ModelCache model(text, 48, [&](naive::Cache& cache, const auto& full) {
            for (const std::size_t h : full) {
                naive::Head& head = cache.heads[h];
                const std::size_t length = 48 - 3 - 7;
                const auto keep = static_cast<std::size_t>(0.4 * static_cast<double>(length));
                const auto exact = static_cast<std::size_t>(share * static_cast<double>(keep));
                naive::Row scores = residuals(head.keys_of(3, length), keep - exact);
                const naive::Row of_values = residuals(head.values_of(3, length), keep - exact);
                for (std::size_t i = 0; i < length; ++i) scores[i] += of_values[i];
                keep_some(head, 3, length, keep, exact, scores);
            }
        });
        const ExactAndLowPass<ResidualEnergy> policy(0.4, share);
        expect_as_model(policy, options, text, model);
        expect_chunks_agree<float>(policy, options, text);
        expect_chunks_agree<Eigen::half>(policy, options, text);
        expect_chunks_agree<double>(policy, options, text);
    }
}

TEST(KeepSome, AddsUpTheAttentionOfWhatItTransforms) {
    const Text text = Text::random(49);
    auto cache = make_cache<float>(text, cache_options(text, 48, 3, 9), ExactAndLowPass<AccumulatedAttention>());
    append(cache, text, 0, 48);
    const auto sum = [&] {
        const auto mass = cache.attention_mass(1);
        return std::accumulate(mass.begin(), mass.end(), 0.0);
    };
    EXPECT_NEAR(sum(), 48 * 2, 1e-4) << "each of the group's queries gives 1";
    cache.prepare();
    EXPECT_LT(cache.size(), 48);
    EXPECT_NEAR(sum(), 48 * 2, 1e-4) << "and nothing of it is lost";
}

TEST(KeepSome, WorksInAForeignCacheWithoutRotation) {
    const Text text = Text::random(40);
    std::vector<float> keys = text.k, values = text.v;
    const auto view = [&](std::vector<float>& x, Index dim) {
        return KVView<float>::token_major(x.data(), text.kv_heads, text.tokens, dim);
    };
    const Index size = compress_in_place<float>(view(keys, text.key_dim), view(values, text.value_dim), std::nullopt,
                                                {.sinks = 2, .recent = 4}, ExactAndLowPass<LongValues>());
    EXPECT_EQ(size, 2 + 17 + 4);
    for (Index h = 0; h < text.kv_heads; ++h) {
        naive::Head head;
        for (Index t = 0; t < text.tokens; ++t) {
            head.append(naive::row(text.keys(0, 40).head(h), t), naive::row(text.values(0, 40).head(h), t));
        }
        keep_some(head, 2, 34, 17, 8);
        for (Index i = 0; i < size; ++i) {
            for (Index d = 0; d < text.key_dim; ++d) {
                ASSERT_NEAR(view(keys, text.key_dim).head(h)(i, d),
                            head.keys[static_cast<std::size_t>(i)][static_cast<std::size_t>(d)], 1e-5)
                    << "entry " << i;
            }
        }
    }
}

TEST(KeepSome, ReportsAllEnergyAndWhatIsLostOfTheOthers) {
    const Text text = Text::random(48);
    struct Seen {
        std::vector<CompressionReport> reports;
        static void call(void* context, const CompressionReport& report) {
            static_cast<Seen*>(context)->reports.push_back(report);
        }
    } seen;
    CacheOptions options = cache_options(text, 48, 4, 4);
    options.observer = {&Seen::call, &seen};
    auto cache = make_cache<float>(text, options, ExactAndLowPass<LongValues>());
    append(cache, text, 0, 48);
    const auto energy = [&] {
        double sum = 0;
        for (Index i = 4; i < cache.size() - 4; ++i) {
            for (Index d = 0; d < text.value_dim; ++d) sum += cache.values(0)(i, d) * cache.values(0)(i, d);
        }
        return sum;
    };
    const double before = energy();
    cache.prepare();
    ASSERT_EQ(seen.reports.size(), 2u);
    EXPECT_EQ(seen.reports[0].kept, 20);
    EXPECT_NEAR(seen.reports[0].values.total, before, 1e-4 * before);
    EXPECT_GT(seen.reports[0].values.discarded, 0);
    EXPECT_LT(seen.reports[0].values.discarded, before);
}

TEST(KeepSome, RefusesAShareOfEverything) {
    const Text text = Text::random(1);
    for (const double share : {1.0, -0.1}) {
        EXPECT_THROW(make_cache<float>(text, cache_options(text, 48, 3, 9), ExactAndLowPass<LongValues>(0.5, share)),
                     Error);
    }
}

}  // namespace
}  // namespace freqkv
