// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ceilings.hpp"
#include "freqkv/chunked_attention.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/policy/local_window.hpp"

// Attention of a LLaMA-shaped layer (32 query heads of 128) against a full cache of 4096 entries.
namespace {

using namespace freqkv;

constexpr Index capacity = 4096, query_heads = 32, dim = 128;

std::vector<float> random_values(Index count) {
    const Eigen::ArrayXf values = Eigen::ArrayXf::Random(count);
    return {values.begin(), values.end()};
}

template <class T>
using Cache = SinkedKVCache<T, LocalWindow>;

template <class T>
Cache<T> make_cache(Index kv_heads, Index entries, const std::vector<float>& data) {
    static const Rope<Arithmetic<T>> rope({.head_dim = dim}, capacity);
    Cache<T> cache({.kv_heads = kv_heads, .query_heads = query_heads, .key_dim = dim, .capacity = capacity}, rope);
    const KVView<const float> tokens(data.data(), kv_heads, capacity, dim);
    cache.append(tokens.middle_tokens(0, entries), tokens.middle_tokens(0, entries));
    return cache;
}

// The largest error of the last token's result, against a sum in double over what the cache holds.
template <class T>
double error_of_last_token(const Cache<T>& cache, const KVView<const float>& q, const KVView<float>& out) {
    double worst = 0;
    const Index group = query_heads / cache.kv_heads();
    std::vector<double> query(dim), weights(static_cast<std::size_t>(cache.size())), sum(dim);
    for (Index h = 0; h < query_heads; h += 5) {
        std::vector<float> rotated(dim), angles(dim), key(dim), value(dim);
        const Index last = q.tokens - 1;
        cache.rope().turn(q.head(h).row(last), 1, rotated.data(), 1,
                          cache.rope().angles(cache.size() - 1, angles.data()));
        double total = 0;
        std::fill(sum.begin(), sum.end(), 0.0);
        for (Index i = 0; i < cache.size(); ++i) {
            cache.load(h / group, i, key.data(), value.data());
            double score = 0;
            for (std::size_t d = 0; d < dim; ++d) {
                score += static_cast<double>(rotated[d]) * static_cast<double>(key[d]);
            }
            const double weight = std::exp(score / std::sqrt(static_cast<double>(dim)));
            total += weight;
            for (std::size_t d = 0; d < dim; ++d) sum[d] += weight * static_cast<double>(value[d]);
        }
        for (Index d = 0; d < dim; ++d) {
            const double actual = static_cast<double>(out.head(h)(last, d));
            worst = std::max(worst, std::abs(actual - sum[static_cast<std::size_t>(d)] / total));
        }
    }
    return worst;
}

// One token. Caches are used in turn, 256 MB of them, so that they come from memory.
template <class T>
void decode(benchmark::State& state) {
    const Index kv_heads = state.range(0);
    const std::vector<float> data = random_values(kv_heads * capacity * dim);
    std::vector<Cache<T>> caches;
    Index bytes = 0;  // of one
    for (Index held = 0; held < (Index{256} << 20); held += bytes) {
        caches.push_back(make_cache<T>(kv_heads, capacity - 1, data));
        bytes = caches.back().memory().entries();
    }
    const std::vector<float> q = random_values(query_heads * dim);
    std::vector<float> out(static_cast<std::size_t>(query_heads * dim));
    const KVView<const float> query(q.data(), query_heads, 1, dim);
    const KVView<const float> token(data.data(), kv_heads, 1, dim);
    const KVView<float> result(out.data(), query_heads, 1, dim);
    ChunkedAttention<float> attention;
    attention.forward(query, token, token, caches[0], result);
    ceilings::require(error_of_last_token(caches[0], query, result) < 1e-5, "attention of one token");
    caches[0].truncate(capacity - 1);

    std::size_t next = 0;
    const double seconds = ceilings::fastest(state, [&] {
        Cache<T>& cache = caches[next];
        next = (next + 1) % caches.size();
        attention.forward(query, token, token, cache, result);
        cache.truncate(capacity - 1);
    });
    const double rate = static_cast<double>(bytes) / seconds / 1e9;
    state.counters["GB/s"] = rate;
    state.counters["of_read"] = rate / ceilings::read_bandwidth();
    const double flops = 4.0 * static_cast<double>(query_heads * capacity * dim);
    state.counters["GFLOP/s"] = flops / seconds / 1e9;
    const double roofline =
        std::max(static_cast<double>(bytes) / ceilings::read_bandwidth(), flops / ceilings::sgemm_rate()) / 1e9;
    state.counters["of_roofline"] = roofline / seconds;
    state.counters["fastest_ms"] = 1e3 * seconds;
}

// A chunk of 2046 tokens, the last to fit.
template <class T>
void prefill(benchmark::State& state) {
    const Index kv_heads = state.range(0);
    constexpr Index chunk = 2046, base = capacity - chunk;
    const std::vector<float> data = random_values(query_heads * capacity * dim);
    Cache<T> cache = make_cache<T>(kv_heads, base, data);
    std::vector<float> out(static_cast<std::size_t>(query_heads * chunk * dim));
    const KVView<const float> query(data.data(), query_heads, chunk, dim);
    const KVView<const float> tokens(data.data(), kv_heads, chunk, dim);
    const KVView<float> result(out.data(), query_heads, chunk, dim);
    ChunkedAttention<float> attention;
    attention.forward(query, tokens, tokens, cache, result);
    ceilings::require(error_of_last_token(cache, query, result) < 1e-5, "attention of a chunk");
    const double seconds = ceilings::fastest(state, [&] {
        cache.truncate(base);
        attention.forward(query, tokens, tokens, cache, result);
    });
    const double scores = static_cast<double>(chunk) * base + 0.5 * chunk * (chunk + 1);
    const double rate = 4e-9 * scores * static_cast<double>(query_heads * dim) / seconds;
    state.counters["GFLOP/s"] = rate;
    state.counters["fastest_ms"] = 1e3 * seconds;
    state.counters["of_sgemm"] = rate / ceilings::sgemm_rate();
    state.counters["scratch_MB"] = static_cast<double>(attention.scratch_bytes()) / 1e6;
}

void decode_axes(benchmark::internal::Benchmark* bench) {
    bench->ArgName("kv_heads")->Arg(32)->Arg(8)->Unit(benchmark::kMillisecond)->UseManualTime();
}
void prefill_axes(benchmark::internal::Benchmark* bench) {
    bench->ArgName("kv_heads")->Arg(8)->Unit(benchmark::kMillisecond)->UseManualTime();
}

BENCHMARK(decode<float>)->Apply(decode_axes);
BENCHMARK(decode<Eigen::half>)->Apply(decode_axes);
BENCHMARK(decode<Eigen::bfloat16>)->Apply(decode_axes);
BENCHMARK(decode<Packed<8>>)->Apply(decode_axes);
BENCHMARK(decode<Packed<4>>)->Apply(decode_axes);
BENCHMARK(decode<Packed<2>>)->Apply(decode_axes);
BENCHMARK(prefill<float>)->Apply(prefill_axes);
BENCHMARK(prefill<Eigen::half>)->Apply(prefill_axes);

}  // namespace

int main(int argc, char** argv) { return ceilings::run(argc, argv); }
