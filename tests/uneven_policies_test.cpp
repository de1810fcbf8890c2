// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include "freqkv/policy.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

namespace freqkv::policy_test {
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

}  // namespace
}  // namespace freqkv::policy_test
