// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <string>
#include <vector>

#include "ceilings.hpp"
#include "freqkv/freqkv.hpp"
#if defined(FREQKV_HAS_FFTW)
#include "freqkv/dct/fftw.hpp"
#endif

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

void axes(benchmark::internal::Benchmark* bench) {
    bench->ArgName("capacity")->Unit(benchmark::kMillisecond)->UseManualTime();
}

#if defined(FREQKV_HAS_FFTW)
using Fftw = LowPass<dct::Fftw>;
BENCHMARK(compress<float, Fftw>)->Apply(axes)->Arg(4096)->Arg(4100);
BENCHMARK(compress<Eigen::half, Fftw>)->Apply(axes)->Arg(4096)->Arg(4100);
#endif
using Direct = LowPass<dct::Direct>;
BENCHMARK(compress<float, Direct>)->Apply(axes)->Arg(516);
BENCHMARK(compress<float, LocalWindow>)->Apply(axes)->Arg(4096);
BENCHMARK(compress<Eigen::half, LocalWindow>)->Apply(axes)->Arg(4096);

}  // namespace

int main(int argc, char** argv) { return ceilings::run(argc, argv); }
