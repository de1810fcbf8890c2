// SPDX-License-Identifier: MIT
#include "freqkv/policy/merge.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "binary_tiers.hpp"
#include "freqkv/in_place.hpp"
#include "freqkv/policy/binary_tiers.hpp"
#include "message_of.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

// Similar keys become one entry.
namespace freqkv {
namespace {

using policy_test::compress_tiers;
using test::message_of;
using testing::HasSubstr;
using testing_model::append;
using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Of;
using testing_model::Text;

// What each row of keys goes into, by the definition.
std::vector<std::size_t> matched(const naive::Rows& keys, std::size_t keep, std::size_t reach) {
    struct Pair {
        double cosine;
        std::size_t from, to;
    };
    const auto cosine = [&](std::size_t a, std::size_t b) {
        const double lengths = std::sqrt(naive::dot(keys[a], keys[a]) * naive::dot(keys[b], keys[b]));
        return lengths > 0 ? naive::dot(keys[a], keys[b]) / lengths : 0;
    };
    std::vector<std::size_t> into(keys.size()), left(keys.size());
    std::iota(into.begin(), into.end(), std::size_t{0});
    std::iota(left.begin(), left.end(), std::size_t{0});
    while (left.size() > keep) {
        std::vector<Pair> pairs;
        for (std::size_t e = 0; e < left.size(); e += 2) {
            std::vector<std::size_t> others;  // the nearest first, of two as near the later
            for (std::size_t away = 1; away < 2 * reach && away <= left.size(); away += 2) {
                if (e + away < left.size()) others.push_back(left[e + away]);
                if (e >= away) others.push_back(left[e - away]);
            }
            Pair best{-2, left[e], 0};
            for (const std::size_t other : others) {
                const double likeness = cosine(left[e], other);
                if (likeness > best.cosine) best = {likeness, left[e], other};
            }
            pairs.push_back(best);
        }
        std::sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) {
            return a.cosine != b.cosine ? a.cosine > b.cosine : a.from > b.from;
        });
        pairs.resize(std::min(pairs.size(), left.size() - keep));
        for (const Pair& pair : pairs) {
            into[pair.from] = pair.to;
            left.erase(std::find(left.begin(), left.end(), pair.from));
        }
    }
    for (std::size_t& to : into) {
        while (into[to] != to) to = into[to];
    }
    return into;
}

naive::Row weighted_mean(const naive::Rows& rows, const naive::Row& weights, const std::vector<std::size_t>& members) {
    naive::Row mean(rows.front().size());
    double sum = 0;
    for (const std::size_t i : members) {
        for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += weights[i] * rows[i][d];
        sum += weights[i];
    }
    for (double& x : mean) x /= sum;
    return mean;
}

// Of each entry of `into` that stays, all that go into it.
std::vector<std::vector<std::size_t>> groups_of(const std::vector<std::size_t>& into) {
    std::vector<std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < into.size(); ++i) {
        if (into[i] != i) continue;
        groups.emplace_back();
        for (std::size_t e = 0; e < into.size(); ++e) {
            if (into[e] == i) groups.back().push_back(e);
        }
    }
    return groups;
}

void merge(naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep, std::size_t reach) {
    const auto groups = groups_of(matched(head.keys_of(begin, length), keep, reach));
    const naive::Head before = head;
    std::vector<std::size_t> all(groups.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    head.select(begin, length, all);  // as many entries, which are then replaced
    for (std::size_t k = 0; k < groups.size(); ++k) {
        std::vector<std::size_t> members = groups[k];
        double weight = 0, mass = 0, middle = 0;
        for (std::size_t& i : members) {
            i += begin;
            weight += before.weights[i];
            mass += before.mass[i];
            middle += before.weights[i] * static_cast<double>(before.first_token[i] + before.last_token[i]) / 2;
        }
        const auto tokens = static_cast<Index>(weight);
        const auto first = static_cast<Index>(std::floor(middle / weight - (weight - 1) / 2 + 0.5));
        head.keys[begin + k] = weighted_mean(before.keys, before.weights, members);
        head.values[begin + k] = weighted_mean(before.values, before.weights, members);
        head.weights[begin + k] = weight;
        head.mass[begin + k] = mass;
        head.first_token[begin + k] = std::clamp<Index>(first, 0, head.tokens - tokens);
        head.last_token[begin + k] = head.first_token[begin + k] + tokens - 1;
    }
}

TEST(Merge, MakesSimilarKeysOne) {
    const Text text = Text::random(250);
    struct Case {
        double ratio;
        Index reach, recent;
        Positions positions;
        bool weighted;
    };
    for (const Case& c : {Case{0.5, 16, 7, Positions::index, false}, Case{0.5, 1, 0, Positions::text, false},
                          Case{0.15, 100, 7, Positions::index, false}, Case{0.15, 3, 7, Positions::text, true},
                          Case{0.4, 3, 0, Positions::index, false}, Case{0.4, 16, 7, Positions::text, false},
                          Case{0.8, 100, 0, Positions::text, true}, Case{0.8, 3, 7, Positions::index, false}}) {
        SCOPED_TRACE("ratio " + std::to_string(c.ratio) + ", reach " + std::to_string(c.reach));
        CacheOptions options = cache_options(text, 48, 3, c.recent);
        options.positions = c.positions;
        options.weighted = c.weighted;
        ModelCache model(text, 48, [&](naive::Cache& cache, const auto& full) {
            const std::size_t length = 48 - 3 - static_cast<std::size_t>(c.recent);
            for (const std::size_t h : full) {
                merge(cache.heads[h], 3, length, static_cast<std::size_t>(c.ratio * static_cast<double>(length)),
                      static_cast<std::size_t>(c.reach));
            }
        });
        model.text_positions = c.positions == Positions::text;
        model.weighted = c.weighted;
        const Merge policy(c.ratio, c.reach);
        expect_as_model(policy, options, text, model);
        expect_chunks_agree<float>(policy, options, text);
        expect_chunks_agree<double>(policy, options, text);
        expect_chunks_agree<Eigen::half>(policy, options, text);
        expect_chunks_agree<Eigen::bfloat16>(policy, options, text);
    }
}

TEST(Merge, WorksInSeveralSpansAtOnce) {
    const Text text = Text::random(500);
    const Of<BinaryTiers, MergeSimilar> policy{{4, 3}, {2}};
    ModelCache model(text, 60, [](naive::Cache& cache, const auto& full) {
        for (const std::size_t h : full) {
            compress_tiers(cache.heads[h], 3, 5, 4, 3,
                           [](naive::Head& head, std::size_t begin, std::size_t length, std::size_t keep) {
                               merge(head, begin, length, keep, 2);
                           });
        }
    });
    CacheOptions options = cache_options(text, 60, 3, 5);
    options.positions = Positions::text;
    model.text_positions = true;
    expect_as_model(policy, options, text, model);
    expect_chunks_agree<float>(policy, options, text);
}

// The codec alone, on spans of any size within a list.
template <class T>
void expect_matches() {
    using C = Arithmetic<T>;
    for (const Index n : {2, 3, 4, 5, 17, 63, 64, 65, 130, 257}) {
        for (const Index dim : {3, 24, 33}) {
            naive::Random next(static_cast<std::uint64_t>(n * 100 + dim));
            std::vector<T> list(static_cast<std::size_t>((n + 3) * dim));
            for (T& x : list) x = static_cast<T>(static_cast<C>(next()));
            naive::Rows keys;
            for (Index i = 2; i < n + 2; ++i) {
                keys.emplace_back();
                for (Index d = 0; d < dim; ++d) {
                    keys.back().push_back(
                        static_cast<double>(static_cast<C>(list[static_cast<std::size_t>(i * dim + d)])));
                }
            }
            const MatrixView<const T> view{list.data(), n + 3, dim};
            const SpanReader<T> span(0, view, view, nullptr, {}, 2, n, {});
            for (const Index reach : {1, 2, 16, 40, 1000}) {
                for (const Index keep : {Index{1}, n / 5, n / 2, 3 * n / 4, n - 1}) {
                    if (keep < 1) continue;
                    const MergeSimilar codec{reach};
                    std::vector<Index> into(static_cast<std::size_t>(n));
                    AlignedBuffer<std::byte> scratch(codec.scratch_bytes(span, keep));
                    codec.merge(span, keep, into.data(), scratch.data());
                    const std::vector<std::size_t> want =
                        matched(keys, static_cast<std::size_t>(keep), static_cast<std::size_t>(reach));
                    ASSERT_EQ(std::vector<std::size_t>(into.begin(), into.end()), want)
                        << n << " keys of " << dim << " to " << keep << ", reach " << reach;
                }
            }
        }
    }
}

TEST(MergeSimilar, MatchesAsDefinedFloat) { expect_matches<float>(); }
TEST(MergeSimilar, MatchesAsDefinedDouble) { expect_matches<double>(); }
TEST(MergeSimilar, MatchesAsDefinedHalf) { expect_matches<Eigen::half>(); }
TEST(MergeSimilar, MatchesAsDefinedBFloat16) { expect_matches<Eigen::bfloat16>(); }

// Of keys that are all the same, each goes into the next; keys that say nothing (0, NaN) do no harm.
TEST(MergeSimilar, TakesNeighboursWhereNothingDiffers) {
    for (const float key : {1.0F, 0.0F, std::nanf("")}) {
        const std::vector<float> keys(7 * 4, key);
        const MatrixView<const float> view{keys.data(), 7, 4};
        const SpanReader<float> span(0, view, view, nullptr, {}, 0, 7, {});
        AlignedBuffer<std::byte> scratch(MergeSimilar{}.scratch_bytes(span, 3));
        std::vector<Index> into(7);
        MergeSimilar{}.merge(span, 3, into.data(), scratch.data());
        EXPECT_EQ(into, (std::vector<Index>{1, 1, 3, 3, 5, 5, 5})) << key;
    }
}

Text constant_text(Index tokens) {
    Text text = Text::random(tokens);
    for (std::size_t i = 0; i < text.k.size(); ++i) {
        text.k[i] = text.k[i % static_cast<std::size_t>(text.kv_heads * text.key_dim)];
    }
    for (std::size_t i = 0; i < text.v.size(); ++i) {
        text.v[i] = text.v[i % static_cast<std::size_t>(text.kv_heads * text.value_dim)];
    }
    return text;
}

TEST(Merge, LeavesAConstantAsItIs) {
    const Text text = constant_text(3000);
    auto cache = make_cache<float>(text, cache_options(text, 48, 3, 9), Merge());
    append(cache, text, 0, text.tokens);
    EXPECT_GT(cache.compressions(), 100);
    for (Index h = 0; h < text.kv_heads; ++h) {
        for (Index i = 0; i < cache.size(h); ++i) {
            const naive::Row key =
                naive::rotated(naive::row(text.keys(0, 1).head(h), 0), i, testing_model::naive_rotary(text));
            for (Index d = 0; d < text.key_dim; ++d) {
                EXPECT_NEAR(cache.keys(h)(i, d), key[static_cast<std::size_t>(d)], 1e-5) << "entry " << i;
            }
            for (Index d = 0; d < text.value_dim; ++d) {
                EXPECT_NEAR(cache.values(h)(i, d), text.values(0, 1).head(h)(0, d), 1e-5) << "entry " << i;
            }
        }
    }
}

// Nothing is forgotten: the tokens that entries stand for are those that were seen, and the mean of all values, each
// counted as often, is that of the text.
TEST(Merge, CountsEveryToken) {
    const Text text = Text::random(700);
    CacheOptions options = cache_options(text, 48, 4, 9);
    options.positions = Positions::text;
    options.weighted = true;
    auto cache = make_cache<float>(text, options, Merge(0.7));
    append(cache, text, 0, text.tokens);
    for (Index h = 0; h < text.kv_heads; ++h) {
        const std::span<const float> weights = cache.weights(h);
        EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 700, 1e-3);
        double mean = 0, of_text = 0;
        for (Index i = 0; i < cache.size(h); ++i) {
            const TokenRange tokens = cache.entry_tokens(h, i);
            const auto weight = static_cast<double>(weights[static_cast<std::size_t>(i)]);
            EXPECT_EQ(static_cast<double>(tokens.end - tokens.begin), weight) << "entry " << i;
            EXPECT_GE(tokens.begin, 0);
            EXPECT_LE(tokens.end, 700);
            mean += weight / 700 * static_cast<double>(cache.values(h)(i, 2));
        }
        for (Index t = 0; t < 700; ++t) of_text += static_cast<double>(text.values(t, 1).head(h)(0, 2)) / 700;
        EXPECT_NEAR(mean, of_text, 1e-5);
    }
}

// Of an entry into which nothing went, not a bit changes.
TEST(Merge, LeavesAloneWhatIsAlone) {
    const Text text = Text::random(200);
    CacheOptions options = cache_options(text, 48, 4, 9);
    options.positions = Positions::text;
    auto cache = make_cache<Eigen::half>(text, options, Merge(0.9));
    const auto plain = [&] {
        CacheOptions all = options;
        all.capacity = 1000;
        auto uncompressed = make_cache<Eigen::half>(text, all, Merge());
        append(uncompressed, text, 0, text.tokens);
        return uncompressed;
    }();
    append(cache, text, 0, text.tokens);
    Index alone = 0;
    for (Index i = 4; i < cache.size(0) - 9; ++i) {
        const TokenRange tokens = cache.entry_tokens(0, i);
        if (tokens.end - tokens.begin > 1) continue;
        ++alone;
        for (Index d = 0; d < text.key_dim; ++d) EXPECT_EQ(cache.keys(0)(i, d), plain.keys(0)(tokens.begin, d));
        for (Index d = 0; d < text.value_dim; ++d) EXPECT_EQ(cache.values(0)(i, d), plain.values(0)(tokens.begin, d));
    }
    EXPECT_GT(alone, 5);
}

struct MergeAndSum : MergeSimilar {
    static constexpr bool attention_mass = true;
};

TEST(Merge, AddsUpTheAttentionOfWhatItMerges) {
    const Text text = Text::random(49);
    const Of<WholeSpan, MergeAndSum> policy{{0.3}, {}};
    auto cache = make_cache<float>(text, cache_options(text, 48, 3, 9), policy);
    append(cache, text, 0, 48);
    const auto sum = [&] {
        const auto mass = cache.attention_mass(1);
        return std::accumulate(mass.begin(), mass.end(), 0.0);
    };
    EXPECT_NEAR(sum(), 48 * 2, 1e-4) << "each of the group's queries gives 1";
    cache.prepare();
    EXPECT_EQ(cache.size(), 3 + 10 + 9);
    EXPECT_NEAR(sum(), 48 * 2, 1e-4) << "and nothing of it is lost";
}

// In a foreign cache, of any strides; nobody knows what its entries stand for, and they count alike.
TEST(Merge, WorksInAForeignCache) {
    const Text text = Text::random(60);
    for (const bool rotated : {false, true}) {
        SCOPED_TRACE(rotated ? "rotated" : "not rotated");
        std::vector<double> keys(static_cast<std::size_t>(text.kv_heads * text.tokens * text.key_dim));
        std::vector<double> values(static_cast<std::size_t>(text.kv_heads * text.tokens * text.value_dim));
        // Dimensions lie apart: [heads, dim, tokens].
        const KVView<double> k{keys.data(), text.kv_heads, text.tokens, text.key_dim, text.key_dim * text.tokens,
                               1,           text.tokens};
        const KVView<double> v{
            values.data(), text.kv_heads, text.tokens, text.value_dim, text.value_dim * text.tokens, 1, text.tokens};
        for (Index h = 0; h < text.kv_heads; ++h) {
            for (Index t = 0; t < text.tokens; ++t) {
                for (Index d = 0; d < text.key_dim; ++d) k.head(h)(t, d) = text.keys(t, 1).head(h)(0, d);
                for (Index d = 0; d < text.value_dim; ++d) v.head(h)(t, d) = text.values(t, 1).head(h)(0, d);
            }
        }
        std::optional<Rope<double>> rope;
        if (rotated) rope.emplace(testing_model::rope_options(text));
        if (rotated) rope->rotate(k);
        InPlaceCompressor<double, Merge> compressor(Merge(0.5), rope);
        naive::Cache model(text.kv_heads, 1000, testing_model::naive_rotary(text), nullptr);
        Index size = text.tokens;
        for (Index h = 0; h < text.kv_heads; ++h) {
            for (Index t = 0; t < text.tokens; ++t) {
                model.heads[static_cast<std::size_t>(h)].append(naive::row(text.keys(t, 1).head(h), 0),
                                                                naive::row(text.values(t, 1).head(h), 0));
            }
        }
        for (int time = 0; time < 2; ++time) {
            const Index length = size - 2 - 4;
            size = compressor.compress(k.middle_tokens(0, size), v.middle_tokens(0, size), {.sinks = 2, .recent = 4});
            ASSERT_EQ(size, 2 + length / 2 + 4);
            for (naive::Head& head : model.heads) {
                merge(head, 2, static_cast<std::size_t>(length), static_cast<std::size_t>(length / 2), 16);
                std::fill(head.weights.begin(), head.weights.end(), 1.0);
            }
        }
        for (Index h = 0; h < text.kv_heads; ++h) {
            const naive::Head& head = model.heads[static_cast<std::size_t>(h)];
            for (Index i = 0; i < size; ++i) {
                const auto entry = static_cast<std::size_t>(i);
                const naive::Row key =
                    rotated ? model.stored_key(static_cast<std::size_t>(h), entry) : head.keys[entry];
                for (Index d = 0; d < text.key_dim; ++d) {
                    ASSERT_NEAR(k.head(h)(i, d), key[static_cast<std::size_t>(d)], 1e-9) << "entry " << i;
                }
                for (Index d = 0; d < text.value_dim; ++d) {
                    ASSERT_NEAR(v.head(h)(i, d), head.values[entry][static_cast<std::size_t>(d)], 1e-9)
                        << "entry " << i;
                }
            }
        }
    }
}

TEST(Merge, ReportsHowFarEntriesMove) {
    const Text text = Text::random(48);
    struct Seen {
        std::vector<CompressionReport> reports;
        static void call(void* context, const CompressionReport& report) {
            static_cast<Seen*>(context)->reports.push_back(report);
        }
    } seen;
    CacheOptions options = cache_options(text, 48, 4, 4);
    options.observer = {&Seen::call, &seen};
    auto cache = make_cache<float>(text, options, Merge(0.4));
    append(cache, text, 0, 48);
    cache.prepare();
    ASSERT_EQ(seen.reports.size(), 2u);
    for (Index h = 0; h < 2; ++h) {
        const CompressionReport& report = seen.reports[static_cast<std::size_t>(h)];
        EXPECT_EQ(report.kept, 16);
        naive::Rows keys, values;
        for (Index t = 4; t < 44; ++t) {
            keys.push_back(naive::row(text.keys(t, 1).head(h), 0));
            values.push_back(naive::row(text.values(t, 1).head(h), 0));
        }
        const auto groups = groups_of(matched(keys, 16, 16));
        const auto lost = [&](const naive::Rows& rows) {
            double sum = 0;
            for (const auto& group : groups) {
                const naive::Row mean = weighted_mean(rows, naive::Row(rows.size(), 1.0), group);
                for (const std::size_t i : group) {
                    for (std::size_t d = 0; d < mean.size(); ++d) sum += std::pow(rows[i][d] - mean[d], 2);
                }
            }
            return sum;
        };
        EXPECT_NEAR(report.keys.total, naive::energy(keys, 0, 40), 1e-4);
        EXPECT_NEAR(report.keys.discarded, lost(keys), 1e-4);
        EXPECT_NEAR(report.values.total, naive::energy(values, 0, 40), 1e-4);
        EXPECT_NEAR(report.values.discarded, lost(values), 1e-4);
    }
}

// What a codec says is checked before anything changes.
struct MergeByTable {
    std::vector<Index> table;

    template <class T>
    void merge(const SpanReader<T>&, Index, Index* into, std::byte*) const {
        std::copy(table.begin(), table.end(), into);
    }
};

TEST(MergeCodec, IsRefusedWhereItIsWrong) {
    const Text text = Text::random(12);
    const auto compressed = [&](const std::vector<Index>& table) {
        const Of<WholeSpan, MergeByTable> policy{{0.5}, {table}};
        auto cache = make_cache<float>(text, cache_options(text, 10, 2, 4), policy);
        append(cache, text, 0, 10);
        const auto before = cache;
        const std::string message = message_of([&] { cache.prepare(); });
        if (message != "accepted") test::expect_identical(cache, before);
        return message;
    };
    EXPECT_EQ(compressed({1, 1, 1, 1}), "accepted");
    EXPECT_EQ(compressed({0, 0, 3, 3}), "accepted");
    EXPECT_THAT(compressed({1, 1, 4, 1}), HasSubstr("index that the codec merges into is 4"));
    EXPECT_THAT(compressed({-1, 1, 1, 1}), HasSubstr("index that the codec merges into is -1"));
    EXPECT_THAT(compressed({1, 2, 2, 2}), HasSubstr("index that the codec merges into is 1"));
    EXPECT_THAT(compressed({0, 1, 2, 2}), HasSubstr("number of entries left by the codec is 3"));
}

TEST(Merge, RefusesToReachNothing) {
    const Text text = Text::random(49);
    auto cache = make_cache<float>(text, cache_options(text, 48, 3, 9), Merge(0.5, 0));
    append(cache, text, 0, 48);
    EXPECT_THAT(message_of([&] { append(cache, text, 48, 1); }), HasSubstr("reach is 0, must be at least 1"));
    EXPECT_EQ(cache.size(), 48);
}

}  // namespace
}  // namespace freqkv
