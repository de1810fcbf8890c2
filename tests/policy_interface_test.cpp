// SPDX-License-Identifier: MIT
// The policy interface carries what comes later: policies as a user would write them, through the unchanged
// cache and attention, each against the same rule told once more over plain vectors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "freqkv/policy.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

namespace freqkv {
namespace {

using testing_model::append;
using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Of;
using testing_model::OfThree;
using testing_model::Text;

// 1. Tiers, newest last. A full cache compresses the oldest 2 * block tokens that are still as they were to
// one block of tier 1; two blocks of a tier become one of the next, those of the last tier one of the
// same. So a tier is compressed half as often as the one before it, as the bits of a counter, and what a
// token has been through grows with the logarithm of its age.
struct BinaryTiers {
    Index block = 2;
    Index tiers = 8;

    SpanList plan(const CacheLayout& layout, Index compressions) const {
        std::array<Index, 32> blocks{};  // of each tier, before this compression
        const auto count = static_cast<std::size_t>(tiers);
        for (Index c = 0; c < compressions; ++c) {
            Index arriving = 1;
            for (std::size_t tier = 1; tier <= count; ++tier) {
                const bool merges = blocks[tier] == 2;
                blocks[tier] += arriving - (merges ? 2 : 0) + (merges && tier == count ? 1 : 0);
                arriving = merges ? 1 : 0;
            }
        }
        SpanList spans;
        Index begin = layout.sinks;
        for (std::size_t tier = count; tier >= 1; --tier) {
            if (blocks[tier] == 2) spans.push_back({begin, 2 * block, block});
            begin += blocks[tier] * block;
        }
        spans.push_back({begin, 2 * block, block});
        return spans;
    }
};

// The same rule told by what the entries have been through, without a count: of each tier, once it has
// 2 * block entries, the oldest so many become half.
void compress_tiers(naive::Head& head, std::size_t sinks, std::size_t recent, std::size_t block, std::size_t tiers,
                    const std::function<void(naive::Head&, std::size_t, std::size_t, std::size_t)>& compress) {
    struct Part {
        std::size_t begin, entries, tier;
    };
    std::vector<Part> parts;
    for (std::size_t i = sinks; i < head.size() - recent; ++i) {
        const std::size_t tier = std::min(static_cast<std::size_t>(head.compresses[i]), tiers);
        if (parts.empty() || parts.back().tier != tier) parts.push_back({i, 0, tier});
        ++parts.back().entries;
    }
    std::reverse(parts.begin(), parts.end());  // compressing the newest first leaves the other places alone
    for (const Part& part : parts) {
        if (part.entries >= 2 * block) compress(head, part.begin, 2 * block, block);
    }
}

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

// 3. Codecs that keep a different number of entries per head.

// Entries above the average square, counted.
template <class T, class Load>
Index count_large(Index size, Load&& load, std::vector<Arithmetic<T>>& squares) {
    squares.clear();
    for (Index i = 0; i < size; ++i) squares.push_back(load(i));
    const auto mean =
        std::accumulate(squares.begin(), squares.end(), Arithmetic<T>{0}) / static_cast<Arithmetic<T>>(size);
    return std::count_if(squares.begin(), squares.end(), [=](auto square) { return square > mean; });
}

// The low-pass, with as many frequencies as the span has keys above its average.
struct LowPassByKeys : FrequencyCodec<> {
    template <class T>
    Index kept(const SpanReader<T>& span, Index keep) const {
        using C = Arithmetic<T>;
        std::vector<C> key(static_cast<std::size_t>(span.key_dim()));
        std::vector<C> angles(key.size());
        std::vector<C> squares;
        const Index large = count_large<T>(
            span.size(),
            [&](Index i) {
                span.load_key(i, key.data(), angles.data());
                return std::inner_product(key.begin(), key.end(), key.begin(), C{0});
            },
            squares);
        return std::clamp<Index>(large, 1, keep);
    }
};

// The entries with values above the span's average; the latest `keep` of them, or the last entry.
struct SelectLargeValues {
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte*) const {
        using C = Arithmetic<T>;
        std::vector<C> value(static_cast<std::size_t>(span.value_dim()));
        std::vector<C> squares;
        const Index large = count_large<T>(
            span.size(),
            [&](Index i) {
                span.load_value(i, value.data());
                return std::inner_product(value.begin(), value.end(), value.begin(), C{0});
            },
            squares);
        const C mean = std::accumulate(squares.begin(), squares.end(), C{0}) / static_cast<C>(span.size());
        Index skip = std::max<Index>(0, large - keep);
        Index count = 0;
        for (Index i = 0; i < span.size(); ++i) {
            if (squares[static_cast<std::size_t>(i)] > mean && skip-- <= 0) chosen[count++] = i;
        }
        if (count == 0) chosen[count++] = span.size() - 1;
        return count;
    }
};

// Which rows are above the average square, naively.
std::vector<std::size_t> large_rows(const naive::Rows& rows) {
    const double mean = naive::energy(rows, 0, rows.size()) / static_cast<double>(rows.size());
    std::vector<std::size_t> large;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const double square = naive::dot(rows[i], rows[i]);
        EXPECT_GT(std::abs(square - mean), 1e-5) << "this text decides too closely; take another seed";
        if (square > mean) large.push_back(i);
    }
    return large;
}

// The heads must really have parted: compressed at different tokens, and so hold different numbers of entries.
template <class P>
void expect_ragged(const P& policy, const CacheOptions& options, const Text& text) {
    auto cache = make_cache<float>(text, options, policy);
    Index parted = 0;
    for (Index t = 0; t < text.tokens; ++t) {
        const std::array<Index, 2> before{cache.compressions(0), cache.compressions(1)};
        append(cache, text, t, 1);
        const bool apart = (cache.compressions(0) > before[0]) != (cache.compressions(1) > before[1]);
        if (apart && cache.size(0) != cache.size(1)) ++parted;
    }
    EXPECT_GT(parted, 5) << "compressions of one of the first two heads alone";
}

TEST(PolicyInterface, CarriesTransformsThatKeepADifferentNumberPerHead) {
    const Text text = Text::random(600, 3);
    const CacheOptions options = cache_options(text, 40, 3, 4);
    ModelCache model(text, 40, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            naive::Head& head = cache.heads[h];
            const std::size_t length = head.size() - 3 - 4;
            const std::size_t large = large_rows(head.keys_of(3, length)).size();
            head.low_pass(3, length, std::clamp<std::size_t>(large, 1, length / 2));
        }
    });
    const Of<WholeSpan, LowPassByKeys> policy;
    expect_as_model(policy, options, text, model);
    expect_chunks_agree<float>(policy, options, text);
    expect_chunks_agree<Eigen::half>(policy, options, text);
    expect_ragged(policy, options, text);
}

TEST(PolicyInterface, CarriesSelectionsThatKeepADifferentNumberPerHead) {
    const Text text = Text::random(600, 3);
    const CacheOptions options = cache_options(text, 40, 3, 4);
    ModelCache model(text, 40, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            naive::Head& head = cache.heads[h];
            const std::size_t length = head.size() - 3 - 4;
            std::vector<std::size_t> chosen = large_rows(head.values_of(3, length));
            if (chosen.size() > length / 2) {
                chosen.erase(chosen.begin(), chosen.end() - static_cast<std::ptrdiff_t>(length / 2));
            }
            if (chosen.empty()) chosen.push_back(length - 1);
            head.select(3, length, chosen);
        }
    });
    const Of<WholeSpan, SelectLargeValues> policy;
    expect_as_model(policy, options, text, model);
    expect_chunks_agree<float>(policy, options, text);
    expect_chunks_agree<Eigen::half>(policy, options, text);
    expect_ragged(policy, options, text);
}

// Both at once: several spans, of which each head keeps what its data says, with entries between them that
// stay as they are.
struct TwoSpans {
    SpanList plan(const CacheLayout& layout, Index) const { return {{layout.sinks, 9, 6}, {layout.sinks + 13, 12, 7}}; }
};

TEST(PolicyInterface, CarriesSeveralSpansThatKeepADifferentNumberPerHead) {
    const Text text = Text::random(600, 3, 2);
    const CacheOptions options = cache_options(text, 40, 3, 4);
    ModelCache transformed(text, 40, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            naive::Head& head = cache.heads[h];
            const std::size_t first = large_rows(head.keys_of(3, 9)).size();
            const std::size_t second = large_rows(head.keys_of(16, 12)).size();
            head.low_pass(16, 12, std::clamp<std::size_t>(second, 1, 7));
            head.low_pass(3, 9, std::clamp<std::size_t>(first, 1, 6));
        }
    });
    const Of<TwoSpans, LowPassByKeys> transform;
    expect_as_model(transform, options, text, transformed);
    expect_chunks_agree<float>(transform, options, text);
    expect_ragged(transform, options, text);

    ModelCache selected(text, 40, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            for (const auto& [begin, length, keep] : {std::array{16UL, 12UL, 7UL}, std::array{3UL, 9UL, 6UL}}) {
                std::vector<std::size_t> chosen = large_rows(cache.heads[h].values_of(begin, length));
                if (chosen.size() > keep)
                    chosen.erase(chosen.begin(), chosen.end() - static_cast<std::ptrdiff_t>(keep));
                cache.heads[h].select(begin, length, chosen);
            }
        }
    });
    const Of<TwoSpans, SelectLargeValues> selection;
    expect_as_model(selection, options, text, selected);
    expect_chunks_agree<float>(selection, options, text);
    expect_ragged(selection, options, text);
}

// Heads with capacities of their own are ragged from the beginning.
TEST(PolicyInterface, CarriesHeadsOfDifferentCapacity) {
    const Text text = Text::random(300);
    CacheOptions options = cache_options(text, 0, 4, 0);
    options.head_capacities = {24, 60};
    auto cache = make_cache<float>(text, options, LowPass<>(0.5));
    append(cache, text, 0, text.tokens);
    const auto compressions = [](Index capacity) {
        return (300 - capacity + (capacity - 4) / 2 - 1) / ((capacity - 4) / 2);
    };
    EXPECT_EQ(cache.compressions(0), compressions(24));
    EXPECT_EQ(cache.compressions(1), compressions(60));
    expect_chunks_agree<float>(LowPass<>(0.5), options, text);
}

// 4. An allocation: what the schedule would keep of all due heads together, shared out by the energy of
// their values.
struct ShareByValues {
    template <class T>
    void allocate(std::span<const DueHead<T>> heads) const {
        std::vector<double> energies;
        Index budget = 0;
        for (const DueHead<T>& head : heads) {
            std::vector<Arithmetic<T>> value(static_cast<std::size_t>(head.entries.value_dim()));
            double energy = 0;
            for (Index i = 0; i < head.entries.size(); ++i) {
                head.entries.load_value(i, value.data());
                for (const auto x : value) energy += static_cast<double>(x) * static_cast<double>(x);
            }
            energies.push_back(energy);
            budget += (*head.spans)[0].keep;
        }
        const double total = std::accumulate(energies.begin(), energies.end(), 0.0);
        for (std::size_t h = 0; h < heads.size(); ++h) {
            Span& span = (*heads[h].spans)[0];
            const auto share = static_cast<Index>(static_cast<double>(budget) * (energies[h] / total));
            span.keep = std::clamp<Index>(share, 1, span.length - 1);
        }
    }
};

void share_by_values(naive::Cache& cache, const std::vector<std::size_t>& full,
                     const std::function<void(naive::Head&, std::size_t, std::size_t)>& compress) {
    const std::size_t length = cache.heads[full[0]].size() - 4;
    const std::size_t budget = full.size() * (length / 2);
    double total = 0;
    for (const std::size_t h : full) total += naive::energy(cache.heads[h].values, 0, cache.heads[h].size());
    for (const std::size_t h : full) {
        const double energy = naive::energy(cache.heads[h].values, 0, cache.heads[h].size());
        const double share = static_cast<double>(budget) * (energy / total);
        if (full.size() > 1) {
            EXPECT_GT(std::abs(share - std::round(share)), 1e-4) << "this text decides too closely; take another seed";
        }
        compress(cache.heads[h], length, std::clamp<std::size_t>(static_cast<std::size_t>(share), 1, length - 1));
    }
}

TEST(PolicyInterface, CarriesAllocationsAcrossHeads) {
    const Text text = Text::random(600, 3);
    const CacheOptions options = cache_options(text, 40, 4, 0);
    ModelCache transformed(text, 40, [](naive::Cache& cache, const auto& full) {
        share_by_values(cache, full, [](naive::Head& head, std::size_t length, std::size_t keep) {
            head.low_pass(4, length, keep);
        });
    });
    const OfThree<WholeSpan, FrequencyCodec<>, ShareByValues> low_pass;
    expect_as_model(low_pass, options, text, transformed);
    expect_chunks_agree<float>(low_pass, options, text);
    expect_ragged(low_pass, options, text);

    ModelCache selected(text, 40, [](naive::Cache& cache, const auto& full) {
        share_by_values(cache, full, [](naive::Head& head, std::size_t length, std::size_t keep) {
            head.select_latest(4, length, keep);
        });
    });
    const OfThree<WholeSpan, SelectLatest, ShareByValues> window;
    expect_as_model(window, options, text, selected);
    expect_chunks_agree<Eigen::half>(window, options, text);
    expect_ragged(window, options, text);
}

// ---------------------------------------------------------------------------------------------------
// Reports.

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
}  // namespace freqkv
