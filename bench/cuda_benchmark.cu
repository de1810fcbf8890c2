// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <numbers>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/cuda/frequency_compressor.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/energy.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/rope_options.hpp"
#include "freqkv/view.hpp"

#include "cuda_benchmark.cuh"

// Compression of a whole model's cache on a GPU, 32 layers of keys and values in one call, from n rows to half; beside
// the device's own copy. A case first compares some of its result with the definition in double on the host.
//
// Counters, of the fastest iteration: GB/s, where every row is read once and every kept one written once; of_copy, that
// over the bandwidth of cudaMemcpyAsync within the device, read and written alike; best_ms. median_ms is of all
// iterations; layers is below 32 where the memory is short; columns is how many complex columns share a block. Times
// are those of CUDA events around the call, so what it does on the host before its launch counts; host_us is how long
// it takes to return.
namespace {

using namespace freqkv;
using cuda::Compression;
using cuda::DeviceArray;
using cuda::FrequencyCompressor;
using cuda::PagedKVView;
using namespace device_bench;

constexpr Index dim = 128;
constexpr Index all_layers = 32;
constexpr Index least_layers = 4;  // more than any device's caches hold
constexpr Index sinks = 4;
constexpr Index page = 16;

// As many layers as there is memory for, all of them or a half, a quarter and so on; 0, and `state` is told, if too
// few.
Index layers_that_fit(benchmark::State& state, Index bytes_of_layer) {
    const Index free = free_bytes();
    Index layers = all_layers;
    while (layers >= least_layers && layers * bytes_of_layer > free) layers /= 2;
    if (layers >= least_layers) return layers;
    skip(state,
         mebibytes(least_layers * bytes_of_layer) + " of device memory are needed, " + mebibytes(free) + " are free");
    return 0;
}

// --- the definition, in double

using Column = std::vector<double>;

// Elements of the orthonormal DCT-II of length n. Angles are reduced as integers.
class Cosines {
public:
    explicit Cosines(Index n) : n_(static_cast<std::uint32_t>(n)), table_(static_cast<std::size_t>(4 * n)) {
        for (std::size_t m = 0; m < table_.size(); ++m) {
            table_[m] = std::sqrt(2.0 / n_) * std::cos(std::numbers::pi * static_cast<double>(m) / (2.0 * n_));
        }
    }
    double operator()(std::size_t k, std::size_t i) const {
        if (k == 0) return std::sqrt(1.0 / n_);
        return table_[static_cast<std::uint32_t>((2 * i + 1) * k) % (4 * n_)];
    }

private:
    std::uint32_t n_;
    std::vector<double> table_;
};

// sqrt(kept / n) IDCT_kept(DCT_n(x)[0..kept)).
Column compressed(const Column& x, Index kept) {
    const auto n = static_cast<Index>(x.size());
    const Cosines forward(n), inverse(kept);
    Column y(static_cast<std::size_t>(kept)), z(y.size());
    for (std::size_t k = 0; k < y.size(); ++k) {
        for (std::size_t i = 0; i < x.size(); ++i) y[k] += forward(k, i) * x[i];
    }
    const double scale = std::sqrt(static_cast<double>(kept) / static_cast<double>(n));
    for (std::size_t k = 0; k < y.size(); ++k) {
        for (std::size_t i = 0; i < z.size(); ++i) z[i] += scale * inverse(k, i) * y[k];
    }
    return z;
}

// Two columns that RoPE turns together.
struct Pair {
    Column a, b;

    // Row r by the angle of its position, first + r; backwards for a negative theta.
    void turn(double theta, Index first) {
        for (std::size_t r = 0; r < a.size(); ++r) {
            const double angle = theta * static_cast<double>(first + static_cast<Index>(r));
            const double x = a[r], y = b[r];
            a[r] = x * std::cos(angle) - y * std::sin(angle);
            b[r] = x * std::sin(angle) + y * std::cos(angle);
        }
    }
};

// Places in a cache whose result is compared: a view (keys and values by turns), a head, and the dimensions d and
// d + dim / 2, which are a pair of RoPE's.
struct Sample {
    Index view, head, d;
};

std::array<Sample, 4> samples(Index views, Index heads) {
    std::array<Sample, 4> chosen;
    for (Index i = 0; i < 4; ++i) {
        chosen[static_cast<std::size_t>(i)] = {(views - 1) * i / 3, (heads - 1) * i / 3, (dim / 2 - 1) * i / 3};
    }
    return chosen;
}

// The largest error of a pair over its largest value. in(row, d) and out(row, d) are elements of the sample's head,
// from `first` on, the position at which row 0 of both is rotated.
template <class In, class Out>
double error_of_pair(const Sample& at, Index n, Index kept, const In& in, const Out& out, double theta = 0,
                     Index first = 0) {
    Pair before;
    for (Index r = 0; r < n; ++r) {
        before.a.push_back(in(r, at.d));
        before.b.push_back(in(r, at.d + dim / 2));
    }
    before.turn(-theta, first);
    Pair expected{compressed(before.a, kept), compressed(before.b, kept)};
    expected.turn(theta, first);
    double difference = 0, largest = 0;
    for (Index r = 0; r < kept; ++r) {
        for (const auto& [value, actual] :
             {std::pair{expected.a[static_cast<std::size_t>(r)], out(r, at.d)},
              std::pair{expected.b[static_cast<std::size_t>(r)], out(r, at.d + dim / 2)}}) {
            if (!std::isfinite(actual)) return std::numeric_limits<double>::infinity();
            difference = std::max(difference, std::abs(actual - value));
            largest = std::max(largest, std::abs(value));
        }
    }
    return difference / largest;
}

// Results are rounded once, and what comes before that is in float.
template <class T>
constexpr double allowed_error = 1e-5 + (std::is_same_v<T, float>    ? 0x1p-24
                                         : std::is_same_v<T, __half> ? 0x1p-11
                                                                     : 0x1p-8);

template <class T>
bool is_right(benchmark::State& state, const Sample& at, double error) {
    if (error <= allowed_error<T>) return true;
    fail(state, "wrong result: relative error " + std::to_string(error) + " in view " + std::to_string(at.view) +
                    ", head " + std::to_string(at.head) + ", dimension " + std::to_string(at.d));
    return false;
}

// --- out of place

// What the discarded part of a head's energy is, from the rows before and after: the kept frequencies have the same in
// both, but for the scale.
template <class T>
Energy energy_of_head(std::span<const T> before, std::span<const T> after) {
    const auto sum_of_squares = [](std::span<const T> values) {
        return std::transform_reduce(values.begin(), values.end(), 0.0, std::plus<>(), [](const T& value) {
            const auto x = static_cast<double>(static_cast<float>(value));
            return x * x;
        });
    };
    const double total = sum_of_squares(before);
    const double ratio = static_cast<double>(before.size()) / static_cast<double>(after.size());
    return {total, total - ratio * sum_of_squares(after)};
}

// How many complex columns share a block.
int columns_of_block(const FrequencyCompressor& compressor, int wanted) {
    namespace detail = cuda::detail;
    const cuda::DctPlan& a = compressor.long_plan();
    const cuda::DctPlan& b = compressor.short_plan();
    using detail::PlanAccess;
    const int slots = std::max(PlanAccess::slots(a), PlanAccess::slots(b));
    const int radix = std::max(PlanAccess::largest_radix(a), PlanAccess::largest_radix(b));
    const int columns = dim / 2;
    const detail::DeviceLimits limits = detail::device_limits();
    const bool pairs = detail::carries_pairs(slots, radix, columns, limits);
    return detail::launch_shape(slots, pairs, columns, limits, wanted).columns();
}

template <class T>
void compress(benchmark::State& state) {
    const Index heads = state.range(0), n = state.range(1), kept = n / 2;
    const auto wanted_columns = static_cast<int>(state.range(2));
    const bool with_energies = state.range(3) != 0;
    const Index rows = heads * n * dim, kept_rows = heads * kept * dim;
    constexpr Index size = sizeof(T);
    const Index layers = layers_that_fit(state, 2 * (rows + kept_rows) * size);
    if (layers == 0) return;
    const Index views = 2 * layers;

    const FrequencyCompressor compressor(n, kept);
    const int columns = columns_of_block(compressor, wanted_columns);
    if (wanted_columns != 0 && columns != wanted_columns) {
        return skip(state, "blocks of this length get " + std::to_string(columns) + " columns on this device");
    }

    const DeviceArray<T> in = random_values<T>(views * rows, -0.5F);
    const DeviceArray<T> out(views * kept_rows);
    spoil(out);
    std::vector<Compression<T>> batch;
    for (Index v = 0; v < views; ++v) {
        batch.push_back({&compressor, KVView<const T>(in.data() + v * rows, heads, n, dim),
                         KVView<T>(out.data() + v * kept_rows, heads, kept, dim)});
    }
    cuda::EnergyReport report;
    const auto run = [&] {
        cuda::detail::compress_batch<T>(batch, with_energies ? &report : nullptr, wanted_columns, nullptr);
    };

    run();
    for (const Sample& at : samples(views, heads)) {
        const auto before = download(batch[static_cast<std::size_t>(at.view)].in.head(at.head).data, n * dim);
        const auto after = download(batch[static_cast<std::size_t>(at.view)].out.head(at.head).data, kept * dim);
        const auto element = [](const std::vector<T>& values) {
            return [&values](Index row, Index d) {
                return static_cast<double>(static_cast<float>(values[static_cast<std::size_t>(row * dim + d)]));
            };
        };
        const double error = error_of_pair(at, n, kept, element(before), element(after));
        if (!is_right<T>(state, at, error)) return;
        if (!with_energies) continue;
        const Energy energy = report.read()[static_cast<std::size_t>(at.view * heads + at.head)];
        const Energy expected = energy_of_head<T>(before, after);
        if (!(std::abs(energy.total - expected.total) < 1e-4 * expected.total &&
              std::abs(energy.discarded - expected.discarded) < 1e-3 * expected.total)) {
            return fail(state, "wrong energies in view " + std::to_string(at.view));
        }
    }

    measure_bytes(state, static_cast<double>(views * (rows + kept_rows) * size), run, [] {});
    state.counters["layers"] = static_cast<double>(layers);
    state.counters["columns"] = columns;
}

// --- in place

// Lists of `tokens` entries in memory for that many, rounded up to pages.
template <class View>
struct Layout;

// [heads, room, dim].
template <class T>
struct Layout<KVView<T>> {
    using Element = T;
    Layout(Index heads_, Index tokens_) : heads(heads_), tokens(tokens_), room((tokens_ + page - 1) / page * page) {}

    Index size() const { return heads * room * dim; }
    KVView<T> view(T* data) const { return {data, heads, tokens, dim, room * dim, dim, 1}; }
    Index place(Index head, Index token, Index d) const { return (head * room + token) * dim + d; }

    Index heads, tokens, room;
};

// [pages, page, heads, dim], the pages of a list in no order. Layers have a pool each, and share the block table.
template <class T>
struct Layout<PagedKVView<T>> {
    using Element = T;
    Layout(Index heads_, Index tokens_)
        : heads(heads_), tokens(tokens_), table(static_cast<std::size_t>((tokens_ + page - 1) / page)) {
        std::iota(table.begin(), table.end(), 0);
        std::shuffle(table.begin(), table.end(), std::mt19937(1));
        device_table = DeviceArray<std::int32_t>(table);
    }

    Index size() const { return static_cast<Index>(table.size()) * page * heads * dim; }
    PagedKVView<T> view(T* data) const {
        PagedKVView<T> list;
        list.data = data;
        list.block_table = device_table.data();
        list.table_pages = device_table.size();
        list.page_tokens = page;
        list.heads = heads;
        list.tokens = tokens;
        list.head_dim = dim;
        list.page_stride = page * heads * dim;
        list.head_stride = dim;
        list.token_stride = heads * dim;
        return list;
    }
    Index place(Index head, Index token, Index d) const {
        const Index row = Index{table[static_cast<std::size_t>(token / page)]} * page + token % page;
        return (row * heads + head) * dim + d;
    }

    Index heads, tokens;
    std::vector<std::int32_t> table;
    DeviceArray<std::int32_t> device_table;
};

// Keys are stored rotated, so they are un-rotated and rotated at their new positions.
template <class View>
void in_place(benchmark::State& state) {
    using T = typename Layout<View>::Element;
    const Index heads = state.range(0), tokens = state.range(1);
    const Index n = tokens - sinks, kept = n / 2;
    const Layout<View> layout(heads, tokens);
    const Index size = layout.size();
    const Index layers = layers_that_fit(state, 2 * 2 * size * static_cast<Index>(sizeof(T)));
    if (layers == 0) return;
    const Index views = 2 * layers;

    const RopeOptions options{.head_dim = dim, .base = 500000, .pairing = RopePairing::half_split};
    cuda::InPlaceCompressor<T> compressor(LowPass<>{}, cuda::Rope(options));
    const DeviceArray<T> original = random_values<T>(views * size, -0.5F);
    const DeviceArray<T> cache(views * size);
    std::vector<cuda::ForeignList<View>> lists;
    for (Index v = 0; v < views; v += 2) {
        lists.push_back({layout.view(cache.data() + v * size), layout.view(cache.data() + (v + 1) * size)});
    }
    // What has been compressed must not be compressed again: it would soon be zeros.
    const auto restore = [&] {
        cuda::check("cudaMemcpyAsync",
                    cudaMemcpyAsync(cache.data(), original.data(), static_cast<std::size_t>(views * size) * sizeof(T),
                                    cudaMemcpyDeviceToDevice, nullptr));
    };
    std::span<const cuda::InPlaceResult> results;
    const auto run = [&] { results = compressor.compress(std::span<const cuda::ForeignList<View>>(lists), {sinks}); };

    restore();
    run();
    for (const cuda::InPlaceResult& result : results) {
        if (result.length != sinks + kept) {
            return fail(state, "wrong result: " + std::to_string(result.length) + " entries are left");
        }
    }
    const std::vector<double> frequencies = rope_frequencies(options);
    for (const Sample& at : samples(views, heads)) {
        const auto before = download(original.data() + at.view * size, size);
        const auto after = download(cache.data() + at.view * size, size);
        const auto element = [&](const std::vector<T>& values, Index first) {
            return [&, first](Index row, Index d) {
                const Index place = layout.place(at.head, first + row, d);
                return static_cast<double>(static_cast<float>(values[static_cast<std::size_t>(place)]));
            };
        };
        for (Index sink = 0; sink < sinks; ++sink) {
            if (element(before, 0)(sink, at.d) != element(after, 0)(sink, at.d)) {
                return fail(state, "wrong result: sink " + std::to_string(sink) + " has changed");
            }
        }
        const double theta = at.view % 2 == 0 ? frequencies[static_cast<std::size_t>(at.d)] : 0;
        const double error = error_of_pair(at, n, kept, element(before, sinks), element(after, sinks), theta, sinks);
        if (!is_right<T>(state, at, error)) return;
    }

    const Index moved = views * heads * (n + kept) * dim * static_cast<Index>(sizeof(T));
    measure_bytes(state, static_cast<double>(moved), run, restore);
    state.counters["layers"] = static_cast<double>(layers);
}

void copy(benchmark::State& state) {
    const Copy copy;
    measure_bytes(state, Copy::bytes, copy, [] {});
}

// --- the cases. LLaMA-2-7B has 32 KV heads, Llama-3-8B has 8. A cache of 4096 entries with 4 sinks compresses 4092.

void compression(benchmark::internal::Benchmark* bench) {
    timed(bench);
    bench->ArgNames({"heads", "n", "columns_per_block", "energies"});
    for (const Index n : {4096, 4092}) bench->Args({32, n, 0, 0});
    bench->Args({8, 8188, 0, 0});
}

// How many columns to a block are best; the library's own choice (0) is in detail/transform/launch_shape.hpp.
void columns(benchmark::internal::Benchmark* bench) {
    for (const int columns_per_block : {1, 2, 4, 8, 16}) {
        for (const Index n : {4096, 4092}) bench->Args({32, n, columns_per_block, 0});
        bench->Args({8, 8188, columns_per_block, 0});
    }
}

void energies(benchmark::internal::Benchmark* bench) {
    for (const Index n : {4096, 4092}) bench->Args({32, n, 0, 1});
}

void cache_lengths(benchmark::internal::Benchmark* bench) {
    timed(bench);
    bench->ArgNames({"heads", "tokens"})->Args({32, 4100})->Args({32, 4096})->Args({8, 8192});
}

BENCHMARK(guarded<copy>)->Name("copy")->Apply(timed);
BENCHMARK(guarded<compress<__half>>)->Name("compress<half>")->Apply(compression)->Apply(columns)->Apply(energies);
BENCHMARK(guarded<compress<__nv_bfloat16>>)->Name("compress<bfloat16>")->Apply(compression);
BENCHMARK(guarded<compress<float>>)->Name("compress<float>")->Apply(compression)->Apply(columns);
BENCHMARK(guarded<in_place<KVView<__half>>>)->Name("in_place<half>")->Apply(cache_lengths);
BENCHMARK(guarded<in_place<PagedKVView<__half>>>)->Name("in_place_paged<half>")->Apply(cache_lengths);

}  // namespace

int main(int argc, char** argv) {
    return device_bench::run(argc, argv, [] {});
}
