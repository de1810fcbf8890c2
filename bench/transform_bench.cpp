// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "ceilings.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/frequency_compressor.hpp"
#if defined(FREQKV_HAS_FFTW)
#include <fftw3.h>

#include "freqkv/dct/fftw.hpp"
#endif

// The transform and the compression of KV heads of 128 columns, [n, 128] row-major, from n rows to half.
// Counters, all of the fastest iteration: GB/s of input and output together; x_memcpy, the time over that
// of copying the input within the caches; x_r2r, how many times faster than the same compression by
// FFTW's strided real-to-real plans (float only). One thread, except where `threads` is an axis.
namespace {

using namespace freqkv;

constexpr Index dim = 128;

template <class T>
std::vector<T> random_values(Index count) {
    const Eigen::Array<T, Eigen::Dynamic, 1> values = Eigen::Array<T, Eigen::Dynamic, 1>::Random(count);
    return {values.begin(), values.end()};
}

// Seconds to copy an input that stays in the caches; by its size in bytes.
double memcpy_seconds(Index bytes) {
    static std::map<Index, double> measured;
    double& seconds = measured[bytes];
    if (seconds == 0) {
        std::vector<char> from(static_cast<std::size_t>(bytes), 1), to(from.size());
        seconds = ceilings::best_seconds(200, [&] {
            std::copy(from.begin(), from.end(), to.begin());
            benchmark::DoNotOptimize(to.data());
            benchmark::ClobberMemory();
        });
    }
    return seconds;
}

// The first columns of a result against the definition in double.
template <class T>
double error(const std::vector<T>& x, Index n, const std::vector<T>& result, Index rows, bool compressed) {
    constexpr Index columns = 8;
    std::vector<double> exact(static_cast<std::size_t>(n * columns)), expected(exact.size());
    for (Index i = 0; i < n; ++i) {
        for (Index c = 0; c < columns; ++c) {
            exact[static_cast<std::size_t>(i * columns + c)] =
                static_cast<double>(x[static_cast<std::size_t>(i * dim + c)]);
        }
    }
    Workspace workspace;
    if (compressed) {
        FrequencyCompressor<double, dct::Direct>(n, rows).forward(KVView<const double>(exact.data(), 1, n, columns),
                                                                  KVView<double>(expected.data(), 1, rows, columns),
                                                                  workspace);
    } else {
        DctPlan<double, dct::Direct>(n).forward(MatrixView<const double>(exact.data(), n, columns),
                                                MatrixView<double>(expected.data(), rows, columns), workspace);
    }
    double difference = 0, largest = 0;
    for (Index i = 0; i < rows; ++i) {
        for (Index c = 0; c < columns; ++c) {
            const double value = expected[static_cast<std::size_t>(i * columns + c)];
            const auto actual = static_cast<double>(result[static_cast<std::size_t>(i * dim + c)]);
            difference = std::max(difference, std::abs(actual - value));
            largest = std::max(largest, std::abs(value));
        }
    }
    return difference / largest;
}

template <class T>
void require_right(const std::vector<T>& x, Index n, const std::vector<T>& result, Index rows, bool compressed) {
    const double allowed = std::is_same_v<T, float> ? 1e-6 : 1e-13;
    ceilings::require(error(x, n, result, rows, compressed) < allowed,
                      std::to_string(n) + " rows to " + std::to_string(rows));
}

#if defined(FREQKV_HAS_FFTW)
// What one writes first with FFTW: strided real-to-real plans over all columns, a scaling between them.
class StridedR2r {
public:
    StridedR2r(Index n, Index kept)
        : kept_(static_cast<int>(kept)),
          scale_(1 / (2 * static_cast<float>(n))),
          transform_(static_cast<std::size_t>(n * dim)) {
        std::vector<float> in(transform_.size());
        forward_ = plan(static_cast<int>(n), in.data(), transform_.data(), FFTW_REDFT10);
        inverse_ = plan(kept_, in.data(), transform_.data(), FFTW_REDFT01);
    }
    StridedR2r(const StridedR2r&) = delete;
    StridedR2r& operator=(const StridedR2r&) = delete;
    ~StridedR2r() {
        fftwf_destroy_plan(forward_);
        fftwf_destroy_plan(inverse_);
    }

    void operator()(float* x, float* z) {
        fftwf_execute_r2r(forward_, x, transform_.data());
        const auto kept = static_cast<std::size_t>(kept_ * dim);
        for (std::size_t i = 0; i < kept; ++i) transform_[i] *= scale_;
        fftwf_execute_r2r(inverse_, transform_.data(), z);
    }

private:
    static fftwf_plan plan(int n, float* in, float* out, fftwf_r2r_kind kind) {
        return fftwf_plan_many_r2r(1, &n, dim, in, nullptr, dim, 1, out, nullptr, dim, 1, &kind,
                                   FFTW_ESTIMATE | FFTW_UNALIGNED);
    }

    int kept_;
    float scale_;  // orthonormal factors and sqrt(kept / n) together
    std::vector<float> transform_;
    fftwf_plan forward_ = nullptr, inverse_ = nullptr;
};

double strided_r2r_seconds(Index n, Index kept) {
    static std::map<Index, double> measured;
    double& seconds = measured[n];
    if (seconds == 0) {
        std::vector<float> x = random_values<float>(n * dim), z(static_cast<std::size_t>(kept * dim));
        StridedR2r compress(n, kept);
        compress(x.data(), z.data());
        require_right(x, n, z, kept, true);
        seconds = ceilings::best_seconds(30, [&] { compress(x.data(), z.data()); });
    }
    return seconds;
}
#endif

template <class T>
void count(benchmark::State& state, double seconds, Index in_rows, Index out_rows) {
    constexpr auto row = static_cast<Index>(dim * sizeof(T));
    state.counters["best_ms"] = 1e3 * seconds;
    state.counters["GB/s"] = static_cast<double>((in_rows + out_rows) * row) / seconds / 1e9;
    state.counters["x_memcpy"] = seconds / memcpy_seconds(in_rows * row);
}

template <class T, class Backend>
void forward(benchmark::State& state) {
    const Index n = state.range(0), kept = n / 2;
    const DctPlan<T, Backend> plan(n);
    const std::vector<T> x = random_values<T>(n * dim);
    std::vector<T> y(static_cast<std::size_t>(kept * dim));
    Workspace workspace;
    const auto transform = [&] {
        plan.forward(MatrixView<const T>(x.data(), n, dim), MatrixView<T>(y.data(), kept, dim), workspace);
    };
    transform();
    require_right(x, n, y, kept, false);
    count<T>(state, ceilings::fastest(state, transform), n, kept);
}

template <class T, class Backend, bool with_energy = false>
void compress(benchmark::State& state) {
    const Index n = state.range(0), kept = n / 2;
    const FrequencyCompressor<T, Backend> compressor(n, kept);
    const std::vector<T> x = random_values<T>(n * dim);
    std::vector<T> z(static_cast<std::size_t>(kept * dim));
    std::vector<Energy> energies(with_energy ? 1 : 0);
    Workspace workspace;
    const auto run = [&] {
        compressor.forward(KVView<const T>(x.data(), 1, n, dim), KVView<T>(z.data(), 1, kept, dim), workspace,
                           energies);
    };
    run();
    require_right(x, n, z, kept, true);
    const double seconds = ceilings::fastest(state, run);
    count<T>(state, seconds, n, kept);
#if defined(FREQKV_HAS_FFTW)
    if constexpr (std::is_same_v<T, float>) state.counters["x_r2r"] = strided_r2r_seconds(n, kept) / seconds;
#endif
}

#if defined(_OPENMP)
// All heads of a layer; `efficiency` is the time of one thread over that of all, by their number.
void compress_layer(benchmark::State& state) {
    constexpr Index heads = 8;
    const Index n = state.range(0), kept = n / 2;
    const auto threads = static_cast<int>(state.range(1));
    const FrequencyCompressor<float, dct::Simd> compressor(n, kept);
    const std::vector<float> x = random_values<float>(heads * n * dim);
    std::vector<float> z(static_cast<std::size_t>(heads * kept * dim)), expected(z.size());
    const KVView<const float> in(x.data(), heads, n, dim);
    Workspace workspace;
    compressor.forward(in, KVView<float>(expected.data(), heads, kept, dim), workspace);
    const auto run = [&] {
        compressor.forward(in, KVView<float>(z.data(), heads, kept, dim), workspace, {}, OpenMPExecutor(threads));
    };
    run();
    ceilings::require(z == expected, "result of several threads");
    static std::map<Index, double> single;
    const double seconds = ceilings::fastest(state, run);
    if (threads == 1) single[n] = seconds;
    count<float>(state, seconds, heads * n, heads * kept);
    if (single.contains(n)) state.counters["efficiency"] = single[n] / (threads * seconds);
}
#endif

void axes(benchmark::internal::Benchmark* bench) {
    bench->ArgName("n")->Arg(4092)->Arg(4096)->Unit(benchmark::kMillisecond)->UseManualTime();
}

#if defined(FREQKV_HAS_FFTW)
void strided_r2r(benchmark::State& state) {
    const Index n = state.range(0), kept = n / 2;
    std::vector<float> x = random_values<float>(n * dim), z(static_cast<std::size_t>(kept * dim));
    StridedR2r run(n, kept);
    run(x.data(), z.data());
    require_right(x, n, z, kept, true);
    count<float>(state, ceilings::fastest(state, [&] { run(x.data(), z.data()); }), n, kept);
}

BENCHMARK(strided_r2r)->Apply(axes);
using dct::Fftw;
BENCHMARK(compress<float, Fftw>)->Apply(axes);
BENCHMARK(compress<double, Fftw>)->Apply(axes);
#endif
using dct::Simd;
BENCHMARK(forward<float, Simd>)->Apply(axes);
BENCHMARK(compress<float, Simd>)->Apply(axes);
BENCHMARK(compress<float, Simd, true>)->Apply(axes);
BENCHMARK(compress<double, Simd>)->Apply(axes);
// Lengths of other kinds: powers of five, three and two, a cache of 512, Bluestein.
BENCHMARK(compress<float, Simd>)
    ->Name("compress_other_lengths")
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime()
    ->ArgName("n")
    ->Arg(4000)
    ->Arg(4050)
    ->Arg(508)
    ->Arg(8188)
    ->Arg(8191)
    ->Arg(32764);
#if defined(_OPENMP)
BENCHMARK(compress_layer)
    ->ArgNames({"n", "threads"})
    ->ArgsProduct({{4092, 4096}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();
#endif
using dct::Direct;
BENCHMARK(compress<float, Direct>)->Apply(axes);

}  // namespace

int main(int argc, char** argv) { return ceilings::run(argc, argv); }
