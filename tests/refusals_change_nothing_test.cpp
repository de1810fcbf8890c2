// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/freqkv.hpp"

// Every public call that promises "without change": what it refuses leaves all that it could have changed as it was. On
// full caches, for there the first thing that a call does is to compress.
namespace freqkv::refusals_test {
namespace {

constexpr Index kv_heads = 2;
constexpr Index query_heads = 4;
constexpr Index key_dim = 8;
constexpr Index value_dim = 6;
constexpr Index capacity = 32;

// Owns what a view shows.
struct Tensor {
    Index heads, tokens, dim;
    std::vector<float> data;

    Tensor(Index heads_, Index tokens_, Index dim_)
        : heads(heads_), tokens(tokens_), dim(dim_), data(static_cast<std::size_t>(heads_ * tokens_ * dim_)) {
        for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>((i * 37 + 11) % 101) / 50 - 1;
    }
    KVView<const float> view() const { return {data.data(), heads, tokens, dim}; }
    KVView<float> view() { return {data.data(), heads, tokens, dim}; }
};

template <class P>
using Cache = freqkv::SinkedKVCache<float, P>;

template <class P>
Cache<P> full_cache() {
    const freqkv::Rope<float> rope({.head_dim = key_dim}, capacity);
    Cache<P> cache({.kv_heads = kv_heads,
                    .query_heads = query_heads,
                    .key_dim = key_dim,
                    .value_dim = value_dim,
                    .capacity = capacity},
                   rope);
    const Tensor q(query_heads, capacity, key_dim);
    const Tensor k(kv_heads, capacity, key_dim);
    const Tensor v(kv_heads, capacity, value_dim);
    cache.append(q.view(), k.view(), v.view());
    return cache;
}

// All that can be seen of a cache.
template <class P>
std::vector<double> state_of(const Cache<P>& cache) {
    std::vector<double> state{static_cast<double>(cache.tokens_seen()),
                              static_cast<double>(cache.earliest_truncation()), static_cast<double>(cache.room())};
    for (Index h = 0; h < kv_heads; ++h) {
        state.push_back(static_cast<double>(cache.size(h)));
        state.push_back(static_cast<double>(cache.compressions(h)));
        for (const auto& rows : {cache.keys(h), cache.values(h)}) {
            for (Index r = 0; r < rows.rows; ++r) {
                for (Index c = 0; c < rows.columns; ++c) state.push_back(static_cast<double>(rows(r, c)));
            }
        }
        for (Index i = 0; i < cache.size(h); ++i) {
            state.push_back(static_cast<double>(cache.entry_tokens(h, i).begin));
            state.push_back(static_cast<double>(cache.entry_tokens(h, i).end));
        }
    }
    return state;
}

// Shapes of the arguments of one call of attention; one of them is wrong.
struct Shapes {
    std::string wrong;
    Index q_heads = query_heads, q_tokens = 3, q_dim = key_dim;
    Index k_heads = kv_heads, k_tokens = 3, k_dim = key_dim;
    Index v_heads = kv_heads, v_tokens = 3, v_dim = value_dim;
    Index out_heads = query_heads, out_tokens = 3, out_dim = value_dim;
    Index sum_heads = query_heads, sum_tokens = 3;
};

const std::vector<Shapes>& wrong_shapes() {
    static const std::vector<Shapes> shapes{
        {.wrong = "heads of q", .q_heads = 3},         {.wrong = "tokens of q", .q_tokens = 4},
        {.wrong = "head_dim of q", .q_dim = 7},        {.wrong = "heads of k", .k_heads = 3},
        {.wrong = "tokens of k", .k_tokens = 2},       {.wrong = "head_dim of k", .k_dim = 9},
        {.wrong = "heads of v", .v_heads = 1},         {.wrong = "tokens of v", .v_tokens = 4},
        {.wrong = "head_dim of v", .v_dim = 8},        {.wrong = "heads of out", .out_heads = 2},
        {.wrong = "tokens of out", .out_tokens = 2},   {.wrong = "head_dim of out", .out_dim = 8},
        {.wrong = "rows of log_sums", .sum_heads = 3}, {.wrong = "columns of log_sums", .sum_tokens = 2},
    };
    return shapes;
}

template <class P>
class RefusalsChangeNothing : public testing::Test {};
using Policies = testing::Types<freqkv::LowPass<>, freqkv::LocalWindow, freqkv::Full>;
TYPED_TEST_SUITE(RefusalsChangeNothing, Policies);

TYPED_TEST(RefusalsChangeNothing, ByAttentionWithAnyWrongShape) {
    Cache<TypeParam> cache = full_cache<TypeParam>();
    const std::vector<double> before = state_of(cache);
    freqkv::ChunkedAttention<float> attention;
    for (const Shapes& s : wrong_shapes()) {
        const Tensor q(s.q_heads, s.q_tokens, s.q_dim);
        const Tensor k(s.k_heads, s.k_tokens, s.k_dim);
        const Tensor v(s.v_heads, s.v_tokens, s.v_dim);
        Tensor out(s.out_heads, s.out_tokens, s.out_dim);
        const std::vector<float> out_before = out.data;
        std::vector<float> sums(static_cast<std::size_t>(s.sum_heads * s.sum_tokens));
        EXPECT_THROW(attention.forward(q.view(), k.view(), v.view(), cache, out.view(), freqkv::SerialExecutor{},
                                       {sums.data(), s.sum_heads, s.sum_tokens}),
                     freqkv::Error)
            << s.wrong;
        EXPECT_EQ(state_of(cache), before) << "the cache after a wrong " << s.wrong;
        EXPECT_EQ(out.data, out_before) << "the result after a wrong " << s.wrong;
    }
}

TYPED_TEST(RefusalsChangeNothing, ByAppendWithAnyWrongShape) {
    Cache<TypeParam> cache = full_cache<TypeParam>();
    const std::vector<double> before = state_of(cache);
    for (const Shapes& s : wrong_shapes()) {
        const bool of_tokens = s.wrong.ends_with(" k") || s.wrong.ends_with(" v");
        if (!of_tokens && !s.wrong.ends_with(" q")) continue;
        const Tensor q(s.q_heads, s.q_tokens, s.q_dim);
        const Tensor k(s.k_heads, s.k_tokens, s.k_dim);
        const Tensor v(s.v_heads, s.v_tokens, s.v_dim);
        EXPECT_THROW(cache.append(q.view(), k.view(), v.view()), freqkv::Error) << s.wrong;
        EXPECT_EQ(state_of(cache), before) << "after a wrong " << s.wrong;
        if (!of_tokens) continue;
        EXPECT_THROW(cache.append(k.view(), v.view()), freqkv::Error) << s.wrong;
        EXPECT_EQ(state_of(cache), before) << "after a wrong " << s.wrong << ", without queries";
    }
}

TYPED_TEST(RefusalsChangeNothing, ByTruncateOutsideItsReach) {
    Cache<TypeParam> cache = full_cache<TypeParam>();
    cache.prepare();
    const std::vector<double> before = state_of(cache);
    for (const Index tokens : {Index{-1}, cache.earliest_truncation() - 1, cache.tokens_seen() + 1}) {
        EXPECT_THROW(cache.truncate(tokens), freqkv::Error) << tokens;
        EXPECT_EQ(state_of(cache), before) << "after truncate(" << tokens << ")";
    }
}

// Calls compress(keys, values, options) on arguments of which one is wrong.
void expect_refused_in_place(
    const std::function<void(KVView<float>, KVView<float>, const freqkv::InPlaceOptions&)>& compress) {
    struct Case {
        std::string wrong;
        Index k_heads = kv_heads, k_tokens = 20, k_dim = key_dim;
        Index v_heads = kv_heads, v_tokens = 20;
        Index sinks = 4, recent = 0, compressions = 0, positions = 0;
    };
    const std::vector<Case> cases{{.wrong = "heads of values", .v_heads = 1},
                                  {.wrong = "tokens of values", .v_tokens = 19},
                                  {.wrong = "head_dim of keys", .k_dim = key_dim + 2},
                                  {.wrong = "sinks", .sinks = 20},
                                  {.wrong = "negative sinks", .sinks = -1},
                                  {.wrong = "recent part", .recent = 16},
                                  {.wrong = "recent part that leaves one entry", .recent = 15},
                                  {.wrong = "compressions", .compressions = -1},
                                  {.wrong = "positions", .positions = 3}};
    for (const Case& c : cases) {
        Tensor keys(c.k_heads, c.k_tokens, c.k_dim);
        Tensor values(c.v_heads, c.v_tokens, value_dim);
        const std::vector<float> keys_before = keys.data;
        const std::vector<float> values_before = values.data;
        const std::vector<Index> positions(static_cast<std::size_t>(c.positions));
        freqkv::InPlaceOptions options;
        options.sinks = c.sinks;
        options.recent = c.recent;
        options.compressions = c.compressions;
        options.positions = positions;
        EXPECT_THROW(compress(keys.view(), values.view(), options), freqkv::Error) << c.wrong;
        EXPECT_EQ(keys.data, keys_before) << "keys after wrong " << c.wrong;
        EXPECT_EQ(values.data, values_before) << "values after wrong " << c.wrong;
    }
}

TEST(RefusalsChangeNothingInPlace, ByLowPass) {
    freqkv::InPlaceCompressor<float> compressor(freqkv::LowPass<>{}, freqkv::Rope<float>({.head_dim = key_dim}, 32));
    expect_refused_in_place([&](KVView<float> keys, KVView<float> values, const freqkv::InPlaceOptions& options) {
        compressor.compress(keys, values, options);
    });
}

TEST(RefusalsChangeNothingInPlace, ByLocalWindow) {
    freqkv::InPlaceCompressor<float, freqkv::LocalWindow> compressor(freqkv::LocalWindow{},
                                                                     freqkv::Rope<float>({.head_dim = key_dim}, 32));
    expect_refused_in_place([&](KVView<float> keys, KVView<float> values, const freqkv::InPlaceOptions& options) {
        compressor.compress(keys, values, options);
    });
}

TEST(RefusalsChangeNothingInPlace, KeepsTheSizesOfTheLatestCall) {
    freqkv::InPlaceCompressor<float> compressor;
    Tensor keys(kv_heads, 20, key_dim);
    Tensor values(kv_heads, 20, value_dim);
    compressor.compress(keys.view(), values.view());
    const std::vector<Index> sizes(compressor.sizes().begin(), compressor.sizes().end());
    freqkv::InPlaceOptions options;
    options.recent = 15;  // a schedule refuses it, behind the checks of shapes
    EXPECT_THROW(compressor.compress(keys.view(), values.view(), options), freqkv::Error);
    EXPECT_TRUE(std::equal(sizes.begin(), sizes.end(), compressor.sizes().begin(), compressor.sizes().end()));
}

TEST(RefusalsChangeNothingOfTheCompressor, ForwardAndAdjointWriteNothing) {
    const freqkv::FrequencyCompressor<float, freqkv::dct::Simd> compressor(20, 10);
    freqkv::Workspace workspace;
    const Tensor in(2, 20, 4);
    for (const auto& [heads, tokens, dim] : {std::array<Index, 3>{1, 10, 4}, {2, 11, 4}, {2, 10, 5}}) {
        Tensor out(heads, tokens, dim);
        const std::vector<float> before = out.data;
        EXPECT_THROW(compressor.forward<float>(in.view(), out.view(), workspace), freqkv::Error);
        EXPECT_THROW(compressor.adjoint<float>(in.view(), out.view(), workspace), freqkv::Error);
        EXPECT_EQ(out.data, before);
    }
    Tensor out(2, 10, 4);
    const std::vector<float> before = out.data;
    std::vector<freqkv::Energy> energies(3);
    EXPECT_THROW(compressor.forward<float>(in.view(), out.view(), workspace, energies), freqkv::Error);
    EXPECT_EQ(out.data, before);
    EXPECT_EQ(energies, std::vector<freqkv::Energy>(3));
}

TEST(RefusalsChangeNothingOfGradients, BackwardWritesNothing) {
    const freqkv::Rope<float> rope({.head_dim = key_dim}, capacity);
    freqkv::DifferentiableAttention<float, freqkv::LowPass<>> attention(
        {.kv_heads = kv_heads, .query_heads = query_heads, .key_dim = key_dim, .value_dim = value_dim, .capacity = 16},
        rope);
    const Tensor q(query_heads, 20, key_dim);
    const Tensor k(kv_heads, 20, key_dim);
    const Tensor v(kv_heads, 20, value_dim);
    Tensor out(query_heads, 20, value_dim);
    attention.forward(q.view(), k.view(), v.view(), out.view());
    const Tensor d_out(query_heads, 20, value_dim);
    Tensor d_q(query_heads, 20, key_dim);
    Tensor d_k(kv_heads, 19, key_dim);  // one token less
    Tensor d_v(kv_heads, 20, value_dim);
    const std::vector<float> before = d_q.data;
    EXPECT_THROW(attention.backward(q.view(), k.view(), v.view(), std::as_const(out).view(), d_out.view(), d_q.view(),
                                    d_k.view(), d_v.view()),
                 freqkv::Error);
    EXPECT_EQ(d_q.data, before);
}

}  // namespace
}  // namespace freqkv::refusals_test
