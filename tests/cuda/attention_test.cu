// SPDX-License-Identifier: MIT
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/device_tests.cuh"
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "random_tokens.hpp"

// Attention of many tokens at once on a device: tokens together agree with tokens one by one, which cache_test.cu
// holds against the method.
namespace freqkv::cuda {
namespace {

constexpr Index capacity = 300;

CacheOptions options_for(Index sequences, Index group, Index dim) {
    return {.sequences = sequences,
            .kv_heads = 2,
            .query_heads = 2 * group,
            .key_dim = dim,
            .capacity = capacity,
            .sinks = 4,
            .recent = 10};
}

template <class U>
DeviceArray<U> random_tokens(Index heads, Index tokens, Index dim, unsigned seed) {
    const naive::RandomTokens<float> values(heads, tokens, dim, seed);
    std::vector<U> elements;
    for (Index i = 0; i < heads * tokens * dim; ++i) elements.push_back(static_cast<U>(values.view().data[i]));
    return DeviceArray<U>(elements);
}

// Queries, keys and values of some tokens, token-major, on the device.
template <class U>
struct Tokens {
    Tokens(const CacheOptions& options, Index tokens_, unsigned seed)
        : tokens(tokens_),
          heads(options.query_heads),
          kv_heads(options.kv_heads),
          dim(options.key_dim),
          q(random_tokens<U>(heads, tokens, dim, seed)),
          k(random_tokens<U>(kv_heads, tokens, dim, seed + 1)),
          v(random_tokens<U>(kv_heads, tokens, dim, seed + 2)),
          out(std::vector<U>(static_cast<std::size_t>(tokens * heads * dim), U(0.0F))) {}

    // Attends tokens [first, first + all parts), the first part's first.
    template <class T>
    void attend(ChunkedAttention<U>& attention, SinkedKVCache<T>& cache, Index first,
                const std::vector<SequenceTokens>& parts, cudaStream_t stream = nullptr) {
        Index count = 0;
        for (const SequenceTokens& part : parts) count += part.tokens;
        const auto rows = [&](const DeviceArray<U>& array, Index h) {
            return KVView<U>::token_major(array.data() + first * h * dim, h, count, dim);
        };
        const auto input = [&](const DeviceArray<U>& array, Index h) {
            const KVView<U> view = rows(array, h);
            return KVView<const U>(view.data, view.heads, view.tokens, view.head_dim, view.head_stride,
                                   view.token_stride, view.dim_stride);
        };
        attention.forward(input(q, heads), input(k, kv_heads), input(v, kv_heads), cache, rows(out, heads), parts,
                          stream);
    }

    std::vector<float> results() const {
        std::vector<float> results;
        for (const U& x : out.download()) results.push_back(static_cast<float>(x));
        return results;
    }

    Index tokens, heads, kv_heads, dim;
    DeviceArray<U> q, k, v, out;
};

template <class T>
bool same(const SavedSequence<T>& a, const SavedSequence<T>& b) {
    return a.size == b.size && a.compressions == b.compressions && a.keys.size() == b.keys.size() &&
           std::memcmp(a.keys.data(), b.keys.data(), a.keys.size() * sizeof(T)) == 0 &&
           std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(T)) == 0;
}

template <class T>
class DevicePrefill : public testing::Test {};
using Stored = testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(DevicePrefill, Stored, ElementNames);

template <class U, class T>
void expect_agreement(Index group, Index dim, RopePairing pairing) {
    SCOPED_TRACE(std::to_string(group) + " query heads for a KV head, " + std::to_string(dim) + " dimensions");
    const CacheOptions options = options_for(2, group, dim);
    const Rope rope({.head_dim = dim, .base = 5000, .pairing = pairing});
    SinkedKVCache<T> by_token_cache(options, rope);
    SinkedKVCache<T> cache(options, rope);
    Tokens<U> by_token(options, 560, 7);
    Tokens<U> together(options, 560, 7);
    ChunkedAttention<U> one_by_one(0, Chunks::token_by_token);
    ChunkedAttention<U> attention;
    // Over two boundaries of the first sequence, with a few tokens behind the latter of them, and a short second one.
    by_token.attend(one_by_one, by_token_cache, 0, {{0, 470}, {1, 90}});
    together.attend(attention, cache, 0, {{0, 470}, {1, 90}});
    ASSERT_GT(cache.compressions(0), 1);
    // Queries, weights and results are rounded, which moves scores of up to some 5 and values of up to some 2.
    const std::vector<float> want = by_token.results();
    const std::vector<float> have = together.results();
    float difference = 0;
    for (std::size_t i = 0; i < want.size(); ++i) difference = std::fmax(difference, std::abs(have[i] - want[i]));
    EXPECT_LT(difference, 10 * rounding<T>);
    EXPECT_NE(have, want) << "the kernel for chunks has not been used";
    for (Index s = 0; s < 2; ++s) EXPECT_TRUE(same(cache.save(s), by_token_cache.save(s))) << "sequence " << s;
}

TYPED_TEST(DevicePrefill, AgreesWithTokensOneByOne) {
    expect_agreement<float, TypeParam>(1, 64, RopePairing::adjacent);
    expect_agreement<float, TypeParam>(4, 128, RopePairing::half_split);
    expect_agreement<TypeParam, TypeParam>(3, 64, RopePairing::half_split);
}

TYPED_TEST(DevicePrefill, IsTheSameInAnyBatchAndEveryTime) {
    using T = TypeParam;
    const CacheOptions options = options_for(3, 2, 64);
    ChunkedAttention<float> attention;
    const auto run = [&](const std::vector<SequenceTokens>& before, const std::vector<SequenceTokens>& parts,
                         std::size_t first, std::size_t count) {
        SinkedKVCache<T> cache(options);
        Tokens<float> tokens(options, 400, 3);
        if (!before.empty()) tokens.attend(attention, cache, 0, before);
        tokens.attend(attention, cache, 40, parts);
        const std::vector<float> results = tokens.results();
        const auto begin = results.begin() + static_cast<std::ptrdiff_t>((40 + first) * 4 * 64);
        return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(count * 4 * 64));
    };
    const std::vector<float> alone = run({{1, 40}}, {{1, 100}}, 0, 100);
    EXPECT_EQ(run({{1, 40}}, {{1, 100}}, 0, 100), alone);
    EXPECT_EQ(run({{1, 40}}, {{1, 100}, {0, 77}, {2, 1}}, 0, 100), alone);
}

TYPED_TEST(DevicePrefill, IsCapturedInAGraph) {
    using T = TypeParam;
    const CacheOptions options = options_for(1, 1, 64);
    ChunkedAttention<float> attention;
    SinkedKVCache<T> cache(options);
    SinkedKVCache<T> captured(options);
    Tokens<float> tokens(options, 280, 5);
    Tokens<float> input(options, 70, 5);
    attention.reserve(captured, 70);
    cudaStream_t stream = nullptr;
    check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    input.attend(attention, captured, 0, {{0, 70}}, stream);
    cudaGraph_t graph = nullptr;
    check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t chunk = nullptr;
    check("cudaGraphInstantiate", cudaGraphInstantiate(&chunk, graph, 0));
    for (Index c = 0; c < 4; ++c) {
        tokens.attend(attention, cache, 70 * c, {{0, 70}});
        const auto copy = [&](const DeviceArray<float>& to, const DeviceArray<float>& from) {
            check("cudaMemcpy", cudaMemcpy(to.data(), from.data() + c * to.size(),
                                           static_cast<std::size_t>(to.size()) * 4, cudaMemcpyDeviceToDevice));
        };
        copy(input.q, tokens.q);
        copy(input.k, tokens.k);
        copy(input.v, tokens.v);
        check("cudaDeviceSynchronize", cudaDeviceSynchronize());
        if (c > 0) captured.replayed(std::vector<SequenceTokens>{{0, 70}});
        check("cudaGraphLaunch", cudaGraphLaunch(chunk, stream));
        check("cudaStreamSynchronize", cudaStreamSynchronize(stream));
        const std::vector<float> want = tokens.results();
        const auto begin = want.begin() + static_cast<std::ptrdiff_t>(c * input.out.size());
        EXPECT_EQ(input.results(), std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(input.out.size())))
            << "chunk " << c;
    }
    EXPECT_TRUE(same(captured.save(0, stream), cache.save(0)));
    check("cudaGraphExecDestroy", cudaGraphExecDestroy(chunk));
    check("cudaGraphDestroy", cudaGraphDestroy(graph));
    check("cudaStreamDestroy", cudaStreamDestroy(stream));
}

TEST(DeviceAttentionErrors, NameWhatTheDeviceCannotDoAndChangeNothing) {
    const auto message = [](const CacheOptions& options) {
        SinkedKVCache<float> cache(options);
        Tokens<float> tokens(cache.options(), 1, 1);
        ChunkedAttention<float> attention;
        EXPECT_THROW(attention.reserve(cache, 1), Error);
        std::string text = message_of([&] { tokens.attend(attention, cache, 0, {{0, 1}}); });
        EXPECT_EQ(cache.tokens_seen(0), 0);
        return text;
    };
    EXPECT_THAT(message({.kv_heads = 1, .key_dim = 30000, .capacity = 6, .sinks = 0}),
                testing::HasSubstr("key_dim and value_dim is 30000 and 30000, for which attention needs"));
    EXPECT_THAT(message({.kv_heads = 65536, .key_dim = 2, .capacity = 4, .sinks = 0}),
                testing::HasSubstr("kv_heads is 65536, must be fewer"));
}

}  // namespace
}  // namespace freqkv::cuda
