// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/detail/device/device_attributes.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/rope_options.hpp"
#include "freqkv/view.hpp"

#include "cuda_benchmark.cuh"

// Attention over a cache on a GPU, which drives the cache: decoding, one token of each sequence, beside the device's
// copy; and a causal chunk of a prompt, beside a product of matrices by cuBLAS. A case first compares some of its
// result with softmax attention in double on the host.
//
// Times are those of ChunkedAttention::forward, which rotates the queries, appends the tokens to the cache and counts
// them, beside attending. Sizes are set back between the iterations, which is not timed.
//
// decode   One iteration is a token of each sequence in as many caches as layers would have, one after another;
//          together they are several times the device's second-level cache, so keys and values come from memory. With
//          graph:1 all of that is one captured graph, the way an engine runs when nothing is compressed; with graph:0
//          it is calls, so that what the host does shows. Counters, of the fastest iteration: GB/s, where every key and
//          value is read once, and nothing else counts; of_copy, that over the bandwidth of cudaMemcpyAsync within the
//          device, read and written alike; best_ms of all caches, and layer_us of one; median_ms is of all iterations.
// prefill  A chunk of `tokens` tokens of each sequence, onto `before` entries. of_matrix is the rate over that of a
//          product in bfloat16 with sums in float; of operations, those of visible entries count: 4 for each query
//          head, dimension, token and entry that the token sees.
//
// --smoke instead of the options of Google Benchmark: small sizes, one iteration, to see that everything runs.
namespace {

using namespace freqkv;
using namespace device_bench;
using cuda::ChunkedAttention;
using cuda::DeviceArray;
using cuda::SequenceTokens;
using cuda::SinkedKVCache;

constexpr Index query_heads = 32;
constexpr Index all_layers = 32;
constexpr Index least_layers = 2;
constexpr Index most_bytes = Index{16} << 30;  // of caches: more would only take longer
constexpr Index second_level_caches = 8;       // that the caches exceed together

bool smoke = false;

RopeOptions rope_options(Index dim) { return {.head_dim = dim, .base = 500000, .pairing = RopePairing::half_split}; }

// Gives the scores of random queries and keys a deviation of 2, by which some hundred of 4096 entries decide the
// result: with equal weights everything would be an average, right or wrong.
double scale_for(Index dim) { return 6 / std::sqrt(static_cast<double>(dim)); }

// --- what is right

// softmax(scale * q k^T) v of one query, rotated to `position`, over the first `visible` entries of keys and values,
// [visible, dim] as they are stored.
template <class T>
std::vector<double> attended(std::span<const T> query, Index position, std::span<const T> keys,
                             std::span<const T> values, Index visible) {
    const auto dim = static_cast<Index>(query.size());
    const std::vector<double> frequencies = rope_frequencies(rope_options(dim));
    std::vector<double> q(query.size());
    for (std::size_t d = 0; d < frequencies.size(); ++d) {
        const double angle = frequencies[d] * static_cast<double>(position);
        const double a = to_double(query[d]), b = to_double(query[d + frequencies.size()]);
        q[d] = a * std::cos(angle) - b * std::sin(angle);
        q[d + frequencies.size()] = a * std::sin(angle) + b * std::cos(angle);
    }
    std::vector<double> weights(static_cast<std::size_t>(visible));
    double largest = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < weights.size(); ++i) {
        double score = 0;
        for (std::size_t d = 0; d < q.size(); ++d) score += q[d] * to_double(keys[i * q.size() + d]);
        weights[i] = scale_for(dim) * score;
        largest = std::max(largest, weights[i]);
    }
    double sum = 0;
    std::vector<double> result(q.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double weight = std::exp(weights[i] - largest);
        sum += weight;
        for (std::size_t d = 0; d < q.size(); ++d) result[d] += weight * to_double(values[i * q.size() + d]);
    }
    for (double& value : result) value /= sum;
    return result;
}

// Over the largest value of a head's result. Queries, weights and results are rounded to T once each on the way; what
// is added up is in float.
template <class T>
constexpr double allowed_error = std::is_same_v<T, __half> ? 3e-3 : 2e-2;

// A token of `sequence`, token `token` of the call, and a query head.
struct Sample {
    Index sequence, token, head;
};

// Compares one result of a call with what the cache holds behind it. q and out are [query_heads, tokens, dim], and
// the token saw the first `visible` entries, the last of which is its own.
template <class T>
bool is_right(benchmark::State& state, const Sample& at, const KVView<const T>& q, const KVView<T>& out,
              const SinkedKVCache<T>& cache, Index visible) {
    const Index dim = q.head_dim;
    const Index kv_head = at.head / (query_heads / cache.options().kv_heads);
    const KVView<T> keys = cache.keys(at.sequence), values = cache.values(at.sequence);
    const std::vector<T> query = download(q.head(at.head).data + at.token * q.token_stride, dim);
    const std::vector<T> actual = download<T>(out.head(at.head).data + at.token * out.token_stride, dim);
    const std::vector<T> k = download<T>(keys.head(kv_head).data, visible * dim);
    const std::vector<T> v = download<T>(values.head(kv_head).data, visible * dim);
    const std::vector<double> expected = attended<T>(query, visible - 1, k, v, visible);
    double difference = 0, largest = 0;
    for (std::size_t d = 0; d < expected.size(); ++d) {
        const double error = std::abs(to_double(actual[d]) - expected[d]);
        difference = std::isfinite(error) ? std::max(difference, error) : std::numeric_limits<double>::infinity();
        largest = std::max(largest, std::abs(expected[d]));
    }
    if (difference <= allowed_error<T> * largest) return true;
    fail(state, "wrong result: relative error " + std::to_string(difference / largest) + " in sequence " +
                    std::to_string(at.sequence) + ", token " + std::to_string(at.token) + ", head " +
                    std::to_string(at.head));
    return false;
}

// --- data

// [heads, tokens, dim] of random numbers.
template <class T>
struct Rows {
    Rows(Index heads_, Index tokens_, Index dim_, std::uint64_t seed)
        : heads(heads_), tokens(tokens_), dim(dim_), array(random_values<T>(heads_ * tokens_ * dim_, -1, seed)) {}

    // `count` tokens from `first` on.
    KVView<const T> view(Index first, Index count) const {
        return {array.data() + first * dim, heads, count, dim, tokens * dim, dim, 1};
    }
    KVView<const T> view() const { return view(0, tokens); }

    Index heads, tokens, dim;
    DeviceArray<T> array;
};

// Appends `count` tokens to each sequence of a cache, which are others in each sequence and for each `first`.
template <class T>
void fill_cache(SinkedKVCache<T>& cache, const Rows<T>& k, const Rows<T>& v, Index first, Index count) {
    for (Index s = 0; s < cache.options().sequences && count > 0; ++s) {
        const Index shift = (first + s) % (k.tokens - count + 1);
        const SequenceTokens part{s, count};
        cache.append(k.view(shift, count), v.view(shift, count), std::span(&part, 1));
    }
}

std::vector<SequenceTokens> parts_of(Index batch, Index tokens) {
    std::vector<SequenceTokens> parts;
    for (Index s = 0; s < batch; ++s) parts.push_back({s, tokens});
    return parts;
}

template <class T>
void truncate_all(SinkedKVCache<T>& cache, Index tokens, cudaStream_t stream) {
    for (Index s = 0; s < cache.options().sequences; ++s) cache.truncate(s, tokens, stream);
}

class Stream {
public:
    Stream() { cuda::check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream() { (void)cudaStreamDestroy(stream_); }
    cudaStream_t get() const { return stream_; }

private:
    cudaStream_t stream_ = nullptr;
};

// What call() gives to the stream, to be launched again and again.
class Graph {
public:
    template <class Call>
    Graph(cudaStream_t stream, const Call& call) {
        cuda::check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        call();
        cuda::check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph_));
        cuda::check("cudaGraphInstantiate", cudaGraphInstantiate(&executable_, graph_, 0));
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph() {
        (void)cudaGraphExecDestroy(executable_);
        (void)cudaGraphDestroy(graph_);
    }
    void launch(cudaStream_t stream) const { cuda::check("cudaGraphLaunch", cudaGraphLaunch(executable_, stream)); }

private:
    cudaGraph_t graph_ = nullptr;
    cudaGraphExec_t executable_ = nullptr;
};

// --- decoding

// How many caches take turns: as many as a model has layers, fewer where the memory is short, more where the device's
// second-level cache would hold much of them. 0, and `state` is told, if there is no memory for the least.
Index caches_in_turn(benchmark::State& state, Index bytes) {
    if (!has_memory(state, least_layers * bytes)) return 0;
    if (smoke) return least_layers;
    const Index most = std::min(most_bytes, free_bytes());
    Index caches = all_layers;
    while (caches > least_layers && caches * bytes > most) caches /= 2;
    const Index second_level = cuda::detail::device_attribute(cudaDevAttrL2CacheSize);
    while (caches * bytes < second_level_caches * second_level) caches *= 2;
    return caches;
}

template <class T>
void decode(benchmark::State& state) {
    constexpr Index dim = 128;
    const Index batch = state.range(0), kv_heads = state.range(1), entries = state.range(2);
    const bool captured = state.range(3) != 0;
    const Index bytes_of_cache = 2 * batch * kv_heads * entries * dim * static_cast<Index>(sizeof(T));
    const Index layers = caches_in_turn(state, bytes_of_cache);
    if (layers == 0) return;

    std::vector<std::unique_ptr<SinkedKVCache<T>>> caches;
    {
        const Index others = 256;  // so many different texts
        const Rows<T> k(kv_heads, entries + others, dim, 1), v(kv_heads, entries + others, dim, 2);
        for (Index layer = 0; layer < layers; ++layer) {
            caches.push_back(std::make_unique<SinkedKVCache<T>>(cuda::CacheOptions{.sequences = batch,
                                                                                   .kv_heads = kv_heads,
                                                                                   .query_heads = query_heads,
                                                                                   .key_dim = dim,
                                                                                   .capacity = entries},
                                                                cuda::Rope(rope_options(dim))));
            fill_cache(*caches.back(), k, v, layer * batch, entries - 1);
        }
        cuda::check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    }
    const Rows<T> q(query_heads, batch, dim, 3), k(kv_heads, batch, dim, 4), v(kv_heads, batch, dim, 5);
    const DeviceArray<T> out(layers * query_heads * batch * dim);
    spoil(out);
    const auto result = [&](Index layer) {
        return KVView<T>(out.data() + layer * query_heads * batch * dim, query_heads, batch, dim);
    };

    const std::vector<SequenceTokens> step = parts_of(batch, 1);
    ChunkedAttention<T> attention(scale_for(dim));
    attention.reserve(*caches.front(), batch);
    const Stream stream;
    cuda::check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    const auto forward = [&] {
        for (Index layer = 0; layer < layers; ++layer) {
            SinkedKVCache<T>& cache = *caches[static_cast<std::size_t>(layer)];
            attention.forward(q.view(), k.view(), v.view(), cache, result(layer), step, stream.get());
        }
    };
    const auto take_back = [&] {
        for (const auto& cache : caches) truncate_all(*cache, entries - 1, stream.get());
        cuda::check("cudaStreamSynchronize", cudaStreamSynchronize(stream.get()));
    };
    std::unique_ptr<Graph> graph;
    if (captured) {
        graph = std::make_unique<Graph>(stream.get(), forward);
        graph->launch(stream.get());  // it is the call that was captured, which the caches have counted
    } else {
        forward();
    }
    cuda::check("cudaStreamSynchronize", cudaStreamSynchronize(stream.get()));
    for (Index i = 0; i < 6; ++i) {
        const Index layer = (layers - 1) * i / 5, sequence = (batch - 1) * i / 5;
        const SinkedKVCache<T>& cache = *caches[static_cast<std::size_t>(layer)];
        const Sample at{sequence, sequence, (query_heads - 1) * i / 5};
        if (!is_right(state, at, q.view(), result(layer), cache, entries)) return;
    }

    const auto prepare = [&] {
        take_back();
        if (!captured) return;
        for (const auto& cache : caches) cache->replayed(step);
    };
    const auto run = [&] { captured ? graph->launch(stream.get()) : forward(); };
    const Times times = measure_bytes(state, static_cast<double>(layers * bytes_of_cache), run, prepare, stream.get());
    state.counters["layer_us"] = 1e6 * times.best / static_cast<double>(layers);
    state.counters["caches"] = static_cast<double>(layers);
}

// --- prompts

void check_cublas(const char* call, cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS)
        throw std::runtime_error(std::string(call) + ": " + cublasGetStatusString(status));
}

class Cublas {
public:
    Cublas() { check_cublas("cublasCreate", cublasCreate(&handle_)); }
    Cublas(const Cublas&) = delete;
    Cublas& operator=(const Cublas&) = delete;
    ~Cublas() { (void)cublasDestroy(handle_); }
    cublasHandle_t get() const { return handle_; }

private:
    cublasHandle_t handle_ = nullptr;
};

// Operations per second of a product of square matrices in bfloat16 by cuBLAS, with sums in float; the best of several.
double matrix_rate() {
    static const double measured = [] {
        const Index n = smoke ? 256 : 8192;
        const DeviceArray<__nv_bfloat16> a = random_values<__nv_bfloat16>(n * n, -1, 1);
        const DeviceArray<__nv_bfloat16> b = random_values<__nv_bfloat16>(n * n, -1, 2);
        const DeviceArray<__nv_bfloat16> c(n * n);
        spoil(c);
        const Cublas cublas;
        const auto multiply = [&] {
            const float one = 1, zero = 0;
            const auto size = static_cast<int>(n);
            check_cublas("cublasGemmEx",
                         cublasGemmEx(cublas.get(), CUBLAS_OP_T, CUBLAS_OP_N, size, size, size, &one, a.data(),
                                      CUDA_R_16BF, size, b.data(), CUDA_R_16BF, size, &zero, c.data(), CUDA_R_16BF,
                                      size, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
        };
        multiply();
        // Column j of the result is a^T times column j of b, and matrices are stored by columns.
        for (const auto& [i, j] : {std::pair{Index{0}, Index{1}}, {n - 1, n / 2}, {n / 3, n - 1}}) {
            const auto x = download(a.data() + i * n, n), y = download(b.data() + j * n, n);
            double sum = 0;
            for (std::size_t d = 0; d < x.size(); ++d) sum += to_double(x[d]) * to_double(y[d]);
            const double actual = to_double(download(c.data() + j * n + i, 1).front());
            if (!(std::abs(actual - sum) <= 1e-2 * std::sqrt(static_cast<double>(n)))) {
                throw std::runtime_error("cublasGemmEx is wrong: " + std::to_string(actual) + " in place of " +
                                         std::to_string(sum));
            }
        }
        return 2 * std::pow(static_cast<double>(n), 3) / fastest(multiply);
    }();
    return measured;
}

template <class T>
void prefill(benchmark::State& state) {
    const Index batch = state.range(0), kv_heads = state.range(1), dim = state.range(2);
    const Index tokens = state.range(3), before = state.range(4);
    const Index entries = before + tokens;
    const Index elements = batch * dim * (2 * kv_heads * (entries + tokens) + 2 * query_heads * tokens);
    if (!has_memory(state, elements * static_cast<Index>(sizeof(T)))) return;

    SinkedKVCache<T> cache(
        {.sequences = batch, .kv_heads = kv_heads, .query_heads = query_heads, .key_dim = dim, .capacity = entries},
        cuda::Rope(rope_options(dim)));
    const Rows<T> q(query_heads, batch * tokens, dim, 3);
    const Rows<T> k(kv_heads, batch * tokens, dim, 4), v(kv_heads, batch * tokens, dim, 5);
    const DeviceArray<T> out(query_heads * batch * tokens * dim);
    spoil(out);
    const KVView<T> result(out.data(), query_heads, batch * tokens, dim);
    fill_cache(cache, Rows<T>(kv_heads, before + batch, dim, 1), Rows<T>(kv_heads, before + batch, dim, 2), 0, before);

    const std::vector<SequenceTokens> parts = parts_of(batch, tokens);
    ChunkedAttention<T> attention(scale_for(dim));
    attention.reserve(cache, batch * tokens);
    const auto run = [&] { attention.forward(q.view(), k.view(), v.view(), cache, result, parts); };
    const auto take_back = [&] {
        truncate_all(cache, before, nullptr);
        cuda::check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    };
    run();
    for (const Index token : {Index{0}, Index{1}, Index{77}, tokens / 3, tokens / 2, tokens - 2, tokens - 1}) {
        const Index sequence = (batch - 1) * token / (tokens - 1);
        const Sample at{sequence, sequence * tokens + token, (query_heads - 1) * token / (tokens - 1)};
        if (!is_right(state, at, q.view(), result, cache, before + token + 1)) return;
    }

    const double rate = matrix_rate();
    const Times times = measure_times(state, run, take_back);
    // The sum of before + 1, …, before + tokens.
    const double visible = 0.5 * static_cast<double>(tokens) * static_cast<double>(2 * before + tokens + 1);
    const double operations = 4 * visible * static_cast<double>(dim * query_heads * batch);
    state.counters["TFLOP/s"] = operations / times.best / 1e12;
    state.counters["of_matrix"] = operations / times.best / rate;
}

// --- the cases

// Llama-3-8B has 8 KV heads, LLaMA-2-7B has 32.
void decode_cases(benchmark::internal::Benchmark* bench) {
    timed(bench);
    bench->ArgNames({"batch", "kv_heads", "entries", "graph"});
    for (const Index graph : {0, 1}) {
        if (smoke) {
            bench->Args({3, 8, 256, graph})->Args({1, 32, 200, graph})->Iterations(1);
            continue;
        }
        for (const Index batch : {1, 4, 16, 64}) bench->Args({batch, 8, 4096, graph});
        bench->Args({16, 32, 4096, graph})->Args({16, 8, 1024, graph})->Args({16, 8, 16384, graph});
    }
}

void prefill_cases(benchmark::internal::Benchmark* bench) {
    timed(bench);
    bench->ArgNames({"batch", "kv_heads", "dim", "tokens", "before"});
    if (smoke) {
        bench->Args({2, 8, 128, 200, 0})->Args({1, 32, 64, 150, 130})->Iterations(1);
        return;
    }
    for (const Index batch : {1, 4}) {
        for (const Index kv_heads : {8, 32}) {
            for (const Index dim : {64, 128}) {
                bench->Args({batch, kv_heads, dim, 4096, 0})->Args({batch, kv_heads, dim, 2048, 2048});
            }
        }
    }
}

void register_all() {
    for (auto* bench : {benchmark::RegisterBenchmark("decode<half>", guarded<decode<__half>>),
                        benchmark::RegisterBenchmark("decode<bfloat16>", guarded<decode<__nv_bfloat16>>)}) {
        bench->Apply(decode_cases);
    }
    for (auto* bench : {benchmark::RegisterBenchmark("prefill<half>", guarded<prefill<__half>>),
                        benchmark::RegisterBenchmark("prefill<bfloat16>", guarded<prefill<__nv_bfloat16>>)}) {
        bench->Apply(prefill_cases);
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "--smoke") == 0) {
        smoke = true;
        std::copy(argv + 2, argv + argc, argv + 1);
        --argc;
    }
    register_all();
    return device_bench::run(argc, argv, [] {
        benchmark::AddCustomContext("bfloat16 matrix rate", std::to_string(matrix_rate() / 1e12) + " TFLOP/s");
    });
}
