// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ceilings.hpp"
#include "freqkv/freqkv.hpp"

// One compression of one layer's cache (8 KV heads of 128), rotation included, and what it adds to each
// token between two compressions.
namespace {

using namespace freqkv;

constexpr Index kv_heads = 8, dim = 128;

template <class T, class P>
void compress(benchmark::State& state) {
    const Index capacity = state.range(0);
    const Eigen::ArrayXf data = Eigen::ArrayXf::Random(kv_heads * capacity * dim) + 1;
    const KVView<const float> tokens(data.data(), kv_heads, capacity, dim);
    SinkedKVCache<T, P> full({.kv_heads = kv_heads, .key_dim = dim, .capacity = capacity},
                             Rope<Arithmetic<T>>({.head_dim = dim}, capacity));
    full.append(tokens, tokens);

    // Gain one: the mean of the values' span stays what it was.
    SinkedKVCache<T, P> cache = full;
    const auto mean = [](const auto& c) {
        double sum = 0;
        for (Index i = 4; i < c.size(); ++i) sum += static_cast<double>(c.values(3)(i, 5));
        return sum / static_cast<double>(c.size() - 4);
    };
    cache.prepare();
    const double tolerance = std::is_same_v<P, LocalWindow> ? 0.1 : 1e-2;
    ceilings::require(cache.size() == 4 + (capacity - 4) / 2, "number of entries after a compression");
    ceilings::require(std::abs(mean(cache) - mean(full)) < tolerance, "mean of the entries after a compression");

    double total = 0;
    for (auto _ : state) {
        cache = full;
        const double seconds = ceilings::best_seconds(1, [&] { cache.prepare(); });
        state.SetIterationTime(seconds);
        total += seconds;
    }
    const double seconds = total / static_cast<double>(state.iterations());
    state.counters["GB/s"] = static_cast<double>(full.memory().entries()) / seconds / 1e9;
    state.counters["us_per_token"] = 1e6 * seconds / static_cast<double>(capacity - cache.size());
}

// Seconds of the matrix products of one token in a layer of LLaMA-2-7B: four of 4096 x 4096 and three of
// 4096 x 11008, in float, by the time of one of the latter.
double product_seconds() {
    static const double measured = [] {
        constexpr Eigen::Index inputs = 4096, outputs = 11008;
        const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> weights =
            decltype(weights)::Constant(outputs, inputs, 0.5F);
        const Eigen::VectorXf x = Eigen::VectorXf::Random(inputs);
        Eigen::VectorXf y(outputs);
        const double seconds = ceilings::best_seconds(5, [&] {
            y.noalias() = weights * x;
            benchmark::DoNotOptimize(y.data());
        });
        return seconds * (4.0 * inputs / outputs + 3);
    }();
    return measured;
}

// What compression adds to decoding in one layer of LLaMA-2-7B's shape, 32 heads of 128, whose cache
// compresses n entries to half: its time per token over that of the attention alone, the mean of a cache
// half full and full (`of_attention`), and over that of attention and matrix products (`of_decode`).
void share_of_decoding(benchmark::State& state) {
    constexpr Index heads = 32, few = 24;
    const Index n = state.range(0), capacity = n + 4;
    const Eigen::ArrayXf data = Eigen::ArrayXf::Random(heads * capacity * dim);
    const KVView<const float> tokens(data.data(), heads, capacity, dim);
    const KVView<const float> token = tokens.middle_tokens(0, 1);
    std::vector<float> out(static_cast<std::size_t>(heads * dim));
    SinkedKVCache<float, LowPass<>> cache({.kv_heads = heads, .key_dim = dim, .capacity = capacity},
                                          Rope<float>({.head_dim = dim}, capacity));
    ChunkedAttention<float> attention;
    const auto attend = [&] {
        return ceilings::best_seconds(
            few, [&] { attention.forward(token, token, token, cache, KVView<float>(out.data(), heads, 1, dim)); });
    };
    const auto fill = [&](Index left) {
        const KVView<const float> more = tokens.middle_tokens(0, cache.room() - left);
        cache.append(more, more);
    };
    double compression = 1e300, half_full = 1e300, full = 1e300;
    for (auto _ : state) {
        fill(few);
        full = std::min(full, attend());
        const double seconds = ceilings::best_seconds(1, [&] { cache.prepare(); });
        compression = std::min(compression, seconds);
        half_full = std::min(half_full, attend());
        state.SetIterationTime(seconds);
    }
    ceilings::require(cache.compressions() == state.iterations(), "number of compressions");
    const double attention_seconds = (half_full + full) / 2;
    const Index freed = n - n / 2;
    const double per_token = compression / static_cast<double>(freed);
    state.counters["attention_ms"] = 1e3 * attention_seconds;
    state.counters["products_ms"] = 1e3 * product_seconds();
    state.counters["of_attention"] = per_token / attention_seconds;
    state.counters["of_decode"] = per_token / (attention_seconds + product_seconds());
}

void axes(benchmark::internal::Benchmark* bench) {
    bench->ArgName("capacity")->Unit(benchmark::kMillisecond)->UseManualTime();
}

using Simd = LowPass<dct::Simd>;
BENCHMARK(compress<float, Simd>)->Apply(axes)->Arg(4096)->Arg(4100);
BENCHMARK(compress<Eigen::half, Simd>)->Apply(axes)->Arg(4096)->Arg(4100);
BENCHMARK(compress<Eigen::bfloat16, Simd>)->Apply(axes)->Arg(4096)->Arg(4100);
BENCHMARK(compress<float, LocalWindow>)->Apply(axes)->Arg(4096);
BENCHMARK(compress<Eigen::half, LocalWindow>)->Apply(axes)->Arg(4096);
BENCHMARK(share_of_decoding)
    ->ArgName("n")
    ->Arg(4092)
    ->Arg(4096)
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace

int main(int argc, char** argv) { return ceilings::run(argc, argv); }
