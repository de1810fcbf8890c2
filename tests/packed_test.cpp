// SPDX-License-Identifier: MIT
#include "freqkv/packed.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "freqkv/chunked_attention.hpp"
#include "freqkv/detail/lanes/packed_rows.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "message_of.hpp"
#include "naive.hpp"
#include "random_tokens.hpp"

namespace freqkv {
namespace {

using testing::HasSubstr;

// H x for each block of the largest power of two that divides the length: H(i, j) = (-1)^(ones of i & j) /
// sqrt(length).
naive::Row transformed(const naive::Row& x) {
    const std::size_t block = x.size() & -x.size();
    naive::Row y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        for (std::size_t j = 0; j < block; ++j) {
            const int sign = std::popcount(i % block & j) % 2 == 0 ? 1 : -1;
            y[i] += sign * x[i / block * block + j];
        }
        y[i] /= std::sqrt(static_cast<double>(block));
    }
    return y;
}

template <int Bits>
std::vector<double> levels_of() {
    if (Bits == 4) {
        return {-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127};
    }
    if (Bits == 2) return {-127, -38, 38, 127};
    std::vector<double> levels;
    for (int i = -127; i <= 127; ++i) levels.push_back(i);
    return levels;
}

// The element's level, from the bits.
template <int Bits>
double level_in(const Packed<Bits>& group, std::size_t i) {
    if (Bits == 8) return static_cast<std::int8_t>(group.codes[i]);
    const std::size_t bytes = group.codes.size();
    const int code = group.codes[i % bytes] >> (i / bytes * Bits) & ((1 << Bits) - 1);
    return levels_of<Bits>()[static_cast<std::size_t>(code)];
}

template <class T>
class PackedRow : public testing::Test {
protected:
    static std::vector<T> pack(naive::Row row) {
        std::vector<float> values(row.begin(), row.end());
        std::vector<T> packed(static_cast<std::size_t>(row_length<T>(static_cast<Index>(row.size()))));
        detail::pack_row(values.data(), static_cast<Index>(row.size()), packed.data());
        return packed;
    }
    static naive::Row unpack(const std::vector<T>& packed, std::size_t count) {
        std::vector<float> values(count);
        detail::unpack_row(packed.data(), static_cast<Index>(count), values.data());
        return {values.begin(), values.end()};
    }
    static naive::Row random(std::size_t count, unsigned seed) {
        naive::Random next(seed);
        naive::Row row(count);
        for (double& x : row) {  // nearly Gaussian
            for (int i = 0; i < 6; ++i) x += next();
        }
        return row;
    }
    // Of the squares.
    static double error(const naive::Row& x, const naive::Row& y) {
        double squares = 0, all = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            squares += (x[i] - y[i]) * (x[i] - y[i]);
            all += x[i] * x[i];
        }
        return squares / all;
    }
};

using Types = testing::Types<Packed<8>, Packed<4>, Packed<2>>;
TYPED_TEST_SUITE(PackedRow, Types);

constexpr std::size_t sizes[] = {1, 7, 20, 32, 40, 64, 80, 96, 100, 128, 256};
constexpr std::size_t whole_groups[] = {32, 64, 96, 128, 256};

TYPED_TEST(PackedRow, UnpacksToScaleTimesLevelTransformed) {
    for (const std::size_t size : sizes) {
        const std::vector<TypeParam> packed = this->pack(this->random(size, 3));
        naive::Row expected;
        for (std::size_t i = 0; i < size; ++i) {
            const TypeParam& group = packed[i / 32];
            expected.push_back(static_cast<double>(static_cast<float>(group.scale)) * level_in(group, i % 32));
        }
        const naive::Row expected_row = transformed(expected);
        const naive::Row row = this->unpack(packed, size);
        for (std::size_t i = 0; i < size; ++i) EXPECT_NEAR(row[i], expected_row[i], 1e-5) << i << " of " << size;
    }
}

TYPED_TEST(PackedRow, EachElementHasTheNearestLevel) {
    for (const std::size_t size : sizes) {
        const naive::Row row = this->random(size, 4);
        const std::vector<TypeParam> packed = this->pack(row);
        const naive::Row y = transformed(row);
        for (std::size_t i = 0; i < size; ++i) {
            const auto scale = static_cast<double>(static_cast<float>(packed[i / 32].scale));
            double nearest = std::numeric_limits<double>::infinity();
            for (const double level : levels_of<TypeParam::bits>()) {
                nearest = std::min(nearest, std::abs(y[i] - scale * level));
            }
            EXPECT_NEAR(std::abs(y[i] - scale * level_in(packed[i / 32], i % 32)), nearest, 1e-5)
                << i << " of " << size;
        }
    }
}

// The part of the energy that is lost of Gaussian numbers; the bound of 4 and 2 bits with one scale for all is 0.0095
// and 0.1175, which a scale for each group betters.
TYPED_TEST(PackedRow, LosesLittleOfGaussianNumbers) {
    const double bound = TypeParam::bits == 8 ? 4e-5 : TypeParam::bits == 4 ? 0.0075 : 0.112;
    for (const std::size_t size : whole_groups) {
        double mean = 0;
        for (unsigned seed = 0; seed < 50; ++seed) {
            const naive::Row row = this->random(size, seed);
            mean += this->error(row, this->unpack(this->pack(row), size)) / 50;
        }
        EXPECT_LT(mean, bound) << size;
    }
}

// What a plain scale for each row would lose to one channel. A constant row is the worst case: all of it is in one
// number.
TYPED_TEST(PackedRow, BearsOneLargeElementAndConstants) {
    for (const std::size_t size : whole_groups) {
        naive::Row row = this->random(size, 7);
        row[size / 3] = 1000;
        EXPECT_LT(this->error(row, this->unpack(this->pack(row), size)), TypeParam::bits == 2 ? 0.05 : 0.01) << size;
        const naive::Row constant(size, 3.25);
        EXPECT_LT(this->error(constant, this->unpack(this->pack(constant), size)), TypeParam::bits == 8   ? 1e-5
                                                                                   : TypeParam::bits == 4 ? 0.07
                                                                                                          : 0.75)
            << size;
    }
    for (const double x : this->unpack(this->pack(naive::Row(40, 0.0)), 40)) EXPECT_EQ(x, 0);
}

TYPED_TEST(PackedRow, PacksWhatItWasToTheSameBits) {
    for (const std::size_t size : sizes) {
        for (unsigned seed = 0; seed < 20; ++seed) {
            const std::vector<TypeParam> packed = this->pack(this->random(size, seed));
            const std::vector<TypeParam> again = this->pack(this->unpack(packed, size));
            EXPECT_EQ(std::memcmp(packed.data(), again.data(), packed.size() * sizeof(TypeParam)), 0) << size;
        }
    }
}

// What lies behind the last row is not the caller's: an infinite scale there must not reach a result.
TYPED_TEST(PackedRow, IsAllThatAttentionReads) {
    using Partial = detail::PartialAttention<float>;
    for (const Index dim : {16, 32, 48, 64, 80, 128}) {
        for (const Index count : {1, 2, 4, 7, 37}) {
            for (const Index rows : {1, 2, 4, 7}) {
                const Index length = row_length<TypeParam>(dim);
                std::vector<TypeParam> packed;
                for (Index i = 0; i < count; ++i) {
                    const auto row =
                        this->pack(this->random(static_cast<std::size_t>(dim), static_cast<unsigned>(i) + 1));
                    packed.insert(packed.end(), row.begin(), row.end());
                }
                packed.emplace_back();
                packed.back().scale = Half(std::numeric_limits<float>::infinity());
                const MatrixView<const TypeParam> list(packed.data(), count, dim, length, 1);

                const Index stride = detail::whole_lanes<float>(dim);
                std::vector<float> q(static_cast<std::size_t>(rows * stride), 0.01F);
                for (Index r = 0; r < rows; ++r) std::fill_n(q.begin() + r * stride + dim, stride - dim, 0.0F);
                std::vector<float> scores(static_cast<std::size_t>(rows * Partial::max_keys));
                std::vector<float> data(static_cast<std::size_t>(Partial::size(rows, dim)));
                Partial(data.data(), rows, dim)
                    .attend(q.data(), list, list, MatrixView<const TypeParam>(list.data, 0, dim, length, 1),
                            scores.data(), 0.0F, static_cast<const float*>(nullptr));
                std::vector<float> out(static_cast<std::size_t>(dim));
                for (Index r = 0; r < rows; ++r) {
                    Partial::combine(data.data(), 1, rows, dim, r, out.data(), 1, static_cast<float*>(nullptr));
                    EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }))
                        << dim << " channels, " << count << " entries, row " << r << " of " << rows;
                }
            }
        }
    }
}

template <class T>
class PackedCache : public testing::Test {
protected:
    static constexpr Index query_heads = 6, kv_heads = 2, key_dim = 40, value_dim = 24, tokens = 700;

    PackedCache()
        : q(query_heads, tokens, key_dim, 1), k(kv_heads, tokens, key_dim, 2), v(kv_heads, tokens, value_dim, 3) {}

    CacheOptions options(Index capacity) const {
        return {.kv_heads = kv_heads,
                .query_heads = query_heads,
                .key_dim = key_dim,
                .value_dim = value_dim,
                .capacity = capacity,
                .recent = 32,
                .exact = 10};
    }
    template <class S, class P>
    SinkedKVCache<S, P> make(const CacheOptions& options, const P& policy) const {
        const Rope<float> rope({.head_dim = key_dim}, tokens);
        return {options, options.positions == Positions::text ? rope.in_half_steps(tokens) : rope, policy};
    }

    naive::RandomTokens<float> q, k, v;
};
TYPED_TEST_SUITE(PackedCache, Types);

// The attention of a token to the entries that load() gives: of a token by itself, in a tile, and in windows.
TYPED_TEST(PackedCache, AttendsToWhatItHolds) {
    const auto check = [&](auto policy, Index window, Index chunk, Index compressions) {
        auto cache = this->template make<TypeParam>(this->options(300), policy);
        ChunkedAttention<float> attention({.window = window});
        std::vector<float> out(static_cast<std::size_t>(this->tokens * this->query_heads * this->value_dim));
        const auto results = KVView<float>::token_major(out.data(), this->query_heads, this->tokens, this->value_dim);
        std::vector<float> key(this->key_dim), value(this->value_dim);
        for (Index t = 0; t < this->tokens; t += chunk) {
            const Index count = std::min(chunk, this->tokens - t);
            attention.forward(this->q.view().middle_tokens(t, count), this->k.view().middle_tokens(t, count),
                              this->v.view().middle_tokens(t, count), cache, results.middle_tokens(t, count));
            const Index last = t + count - 1;
            if (count == 1 && t % 7 != 0) continue;  // the definition takes long
            for (Index h = 0; h < this->query_heads; ++h) {
                const Index kv_head = h / 3;
                naive::Rows keys, values;
                const Index size = cache.size(kv_head);
                for (Index i = window == 0 ? 0 : std::max<Index>(0, size - window); i < size; ++i) {
                    cache.load(kv_head, i, key.data(), value.data());
                    keys.emplace_back(key.begin(), key.end());
                    values.emplace_back(value.begin(), value.end());
                }
                std::vector<float> query(this->key_dim), angles(this->key_dim);
                cache.rope().turn(this->q.view().head(h).row(last), 1, query.data(), 1,
                                  cache.rope().angles(size - 1, angles.data()));
                const naive::Row expected = naive::attended(naive::Row(query.begin(), query.end()), keys, values);
                for (Index d = 0; d < this->value_dim; ++d) {
                    ASSERT_NEAR(results.head(h)(last, d), expected[static_cast<std::size_t>(d)], 2e-5)
                        << "token " << last << ", query head " << h;
                }
            }
        }
        EXPECT_GT(cache.keys(0).packed.rows, 0);
        EXPECT_GE(cache.compressions(), compressions);
    };
    for (const Index chunk : {1, 90}) {
        for (const Index window : {0, 50, 150}) {
            SCOPED_TRACE("chunks of " + std::to_string(chunk) + ", window " + std::to_string(window));
            check(LocalWindow(0.9), window, chunk, 4);
            check(Full(), window, chunk, 0);
        }
        check(LowPass<>(), 0, chunk, 3);
    }
}

// The sums of attention are those of a cache of float but for what packing changes.
TYPED_TEST(PackedCache, SumsTheAttentionOfItsParts) {
    auto cache = this->template make<TypeParam>(this->options(300), HeavyHitters());
    ChunkedAttention<float> attention;
    std::vector<float> out(static_cast<std::size_t>(250 * this->query_heads * this->value_dim));
    for (const Index t : {0, 100}) {  // 100 in a tile and 1 by 1
        const Index count = t == 0 ? 100 : 1;
        for (Index i = t; i < t + 100; i += count) {
            attention.forward(this->q.view().middle_tokens(i, count), this->k.view().middle_tokens(i, count),
                              this->v.view().middle_tokens(i, count), cache,
                              KVView<float>::token_major(out.data(), this->query_heads, count, this->value_dim));
        }
    }
    for (Index h = 0; h < this->kv_heads; ++h) {
        double sum = 0;
        for (const float mass : cache.attention_mass(h)) sum += static_cast<double>(mass);
        EXPECT_NEAR(sum, 200 * 3, 0.01) << "each query gives 1";
    }
}

// At positions of the text keys never turn: after a hundred compressions an entry is what was packed at first. At
// indices each compression packs what is left anew, and the errors add up like steps in random directions.
TYPED_TEST(PackedCache, DriftsAtIndicesAndNotAtPositionsOfTheText) {
    const auto lost = [&](Positions positions) {
        CacheOptions options = this->options(200);
        options.positions = positions;
        options.recent = 0;
        const LocalWindow policy(0.985);  // three at a time: an entry is compressed 60 times
        auto packed = this->template make<TypeParam>(options, policy);
        auto exact = this->template make<float>(options, policy);
        packed.append(this->k.view(), this->v.view());
        exact.append(this->k.view(), this->v.view());
        EXPECT_GT(packed.compressions(), 100);
        double squares = 0, all = 0;
        std::vector<float> key(this->key_dim), value(this->value_dim), other(this->key_dim);
        for (Index i = 4; i < 60; ++i) {
            packed.load(0, i, key.data(), value.data());
            exact.load(0, i, other.data(), value.data());
            for (std::size_t d = 0; d < key.size(); ++d) {
                const auto difference = static_cast<double>(key[d] - other[d]);
                squares += difference * difference;
                all += static_cast<double>(other[d]) * static_cast<double>(other[d]);
            }
        }
        return squares / all;
    };
    const double once = TypeParam::bits == 8 ? 4e-5 : TypeParam::bits == 4 ? 0.0075 : 0.112;
    EXPECT_LT(lost(Positions::text), once);
    const double drifted = lost(Positions::index);
    EXPECT_GT(drifted, once);
    if (TypeParam::bits == 8) {
        EXPECT_LT(drifted, 100 * once);
    }
}

TYPED_TEST(PackedCache, RefusesWhatCannotBePacked) {
    auto cache = this->template make<TypeParam>(this->options(300), LowPass<>());
    const auto message = [&](float bad) {
        std::vector<float> keys(static_cast<std::size_t>(this->kv_heads * 2 * this->key_dim), 1.0F);
        std::vector<float> values(static_cast<std::size_t>(this->kv_heads * 2 * this->value_dim), 1.0F);
        keys.back() = bad;
        return test::message_of([&] {
            cache.append(KVView<const float>(keys.data(), this->kv_heads, 2, this->key_dim),
                         KVView<const float>(values.data(), this->kv_heads, 2, this->value_dim));
        });
    };
    EXPECT_THAT(message(std::numeric_limits<float>::infinity()), HasSubstr("element of k is inf, must be finite"));
    EXPECT_THAT(message(std::numeric_limits<float>::quiet_NaN()), HasSubstr("element of k is nan, must be finite"));
    EXPECT_THAT(message(-1025), HasSubstr("element of k is -1025.000000, must be finite and within +-1024"));
    EXPECT_EQ(cache.tokens_seen(), 0);
    EXPECT_EQ(message(1024), "accepted");
}

}  // namespace
}  // namespace freqkv
