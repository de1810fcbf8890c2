// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "binary_tiers.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

namespace freqkv::policy_test {
namespace {

using testing_model::append;
using testing_model::cache_options;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Of;
using testing_model::Text;

struct Reports {
    std::vector<CompressionReport> all;
    static void add(void* context, const CompressionReport& report) {
        static_cast<Reports*>(context)->all.push_back(report);
    }
};

// What a compression of entries [begin, begin + length) to `keep` discards, by definition.
using Discarded = std::function<double(const naive::Rows&, std::size_t keep)>;

// The reports of the whole text, fed at once, against the model's entries before each compression.
template <class P>
void expect_reports(const P& policy, const Text& text, Index capacity, Index sinks, Index recent,
                    const std::function<std::vector<std::array<std::size_t, 3>>(const naive::Head&)>& spans_of,
                    const std::function<void(naive::Head&, std::size_t, std::size_t, std::size_t)>& compress,
                    const Discarded& discarded) {
    std::vector<CompressionReport> want;
    ModelCache model(text, capacity, [&](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            naive::Head& head = cache.heads[h];
            auto spans = spans_of(head);
            for (const auto& [begin, length, keep] : spans) {
                const naive::Rows keys = head.keys_of(begin, length);
                const naive::Rows values = head.values_of(begin, length);
                want.push_back({7, static_cast<Index>(h), head.compressions, static_cast<Index>(begin),
                                static_cast<Index>(length), static_cast<Index>(keep),
                                Energy{naive::energy(keys, 0, length), discarded(keys, keep)},
                                Energy{naive::energy(values, 0, length), discarded(values, keep)}});
            }
            std::reverse(spans.begin(), spans.end());
            for (const auto& [begin, length, keep] : spans) compress(head, begin, length, keep);
        }
    });
    for (Index t = 0; t < text.tokens; ++t) model.append(text, t);

    Reports got;
    CacheOptions options = cache_options(text, capacity, sinks, recent);
    options.layer = 7;
    options.observer = {&Reports::add, &got};
    auto cache = make_cache<float>(text, options, policy);
    append(cache, text, 0, text.tokens);
    ASSERT_EQ(got.all.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
        SCOPED_TRACE("report " + std::to_string(i));
        EXPECT_EQ(got.all[i].layer, 7);
        EXPECT_EQ(got.all[i].head, want[i].head);
        EXPECT_EQ(got.all[i].compression, want[i].compression);
        EXPECT_EQ(got.all[i].begin, want[i].begin);
        EXPECT_EQ(got.all[i].length, want[i].length);
        EXPECT_EQ(got.all[i].kept, want[i].kept);
        const double tolerance = 1e-5;
        EXPECT_NEAR(got.all[i].keys.total, want[i].keys.total, tolerance * want[i].keys.total);
        EXPECT_NEAR(got.all[i].keys.discarded, want[i].keys.discarded, tolerance * want[i].keys.total);
        EXPECT_NEAR(got.all[i].keys.relative(), want[i].keys.relative(), tolerance);
        EXPECT_NEAR(got.all[i].values.total, want[i].values.total, tolerance * want[i].values.total);
        EXPECT_NEAR(got.all[i].values.discarded, want[i].values.discarded, tolerance * want[i].values.total);
    }
}

double high_frequencies(const naive::Rows& x, std::size_t keep) { return naive::energy(naive::dct(x), keep, x.size()); }

TEST(Observer, ReportsTheEnergyOfTheFrequenciesThatALowPassDrops) {
    expect_reports(
        LowPass<>(0.4), Text::random(200, 3), 40, 4, 6,
        [](const naive::Head&) { return std::vector<std::array<std::size_t, 3>>{{4, 30, 12}}; },
        [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep) {
            head.low_pass(begin, length, keep);
        },
        high_frequencies);
}

TEST(Observer, ReportsTheEnergyOfTheEntriesThatASelectionDrops) {
    expect_reports(
        LocalWindow(0.4), Text::random(200, 3), 40, 4, 6,
        [](const naive::Head&) { return std::vector<std::array<std::size_t, 3>>{{4, 30, 12}}; },
        [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep) {
            head.select_latest(begin, length, keep);
        },
        [](const naive::Rows& x, std::size_t keep) { return naive::energy(x, 0, x.size() - keep); });
}

TEST(Observer, ReportsEachSpanOfEachHeadInOrder) {
    expect_reports(
        Of<BinaryTiers, FrequencyCodec<>>{{2, 4}, {}}, Text::random(200), 40, 4, 0,
        [](const naive::Head& head) {
            std::vector<std::array<std::size_t, 3>> spans;
            naive::Head copy = head;
            compress_tiers(copy, 4, 0, 2, 4,
                           [&](naive::Head&, std::size_t begin, std::size_t length, std::size_t keep) {
                               spans.insert(spans.begin(), {begin, length, keep});
                           });
            return spans;
        },
        [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep) {
            head.low_pass(begin, length, keep);
        },
        high_frequencies);
}

TEST(Observer, SeesTheCompressionComplete) {
    struct Context {
        SinkedKVCache<float, LowPass<>>* cache = nullptr;
        Index calls = 0;
    } context;
    const Text text = Text::random(41);
    CacheOptions options = cache_options(text, 40, 4, 0);
    options.observer.context = &context;
    options.observer.call = [](void* pointer, const CompressionReport& report) {
        auto& seen = *static_cast<Context*>(pointer);
        ++seen.calls;
        for (Index h = 0; h < seen.cache->kv_heads(); ++h) {
            EXPECT_EQ(seen.cache->size(h), 4 + report.kept);
            EXPECT_EQ(seen.cache->compressions(h), report.compression + 1);
        }
    };
    auto cache = make_cache<float>(text, options, LowPass<>(0.5));
    context.cache = &cache;
    append(cache, text, 0, 40);
    EXPECT_EQ(context.calls, 0) << "a full cache is not compressed before a further token comes";
    append(cache, text, 40, 1);
    EXPECT_EQ(context.calls, 2);
}

}  // namespace
}  // namespace freqkv::policy_test
