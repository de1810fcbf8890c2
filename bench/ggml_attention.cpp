// SPDX-License-Identifier: MIT
// The time that GGML's attention on the processor takes for one token, against caches that come from memory, as
// decode() of attention_bench.cpp measures the library's. Built and called by llama_cpp.py --attention:
//
//     ggml_attention <f16|q8_0|q4_0> <KV heads>    prints milliseconds, the best of some rounds
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

namespace {

constexpr std::int64_t entries = 4096, query_heads = 32, dim = 128;
constexpr std::size_t held_bytes = std::size_t{256} << 20;

std::vector<float> random_values(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> values(count);
    for (float& value : values) value = uniform(random);
    return values;
}

// To the type, and what that is as float.
std::vector<float> fill(ggml_tensor* tensor, const std::vector<float>& values) {
    const std::int64_t rows = ggml_nrows(tensor);
    ggml_quantize_chunk(tensor->type, values.data(), tensor->data, 0, rows, dim, nullptr);
    std::vector<float> stored(values.size());
    ggml_get_type_traits(tensor->type)->to_float(tensor->data, stored.data(), static_cast<std::int64_t>(stored.size()));
    return stored;
}

struct Case {
    ggml_context* context;
    ggml_cgraph* graph;
    ggml_tensor* result;
};

Case make_case(ggml_type type, std::int64_t kv_heads, const std::vector<float>& q, std::vector<float>* keys,
               std::vector<float>* values) {
    const std::size_t bytes = 2 * ggml_row_size(type, dim) * static_cast<std::size_t>(entries * kv_heads) + (8 << 20);
    ggml_context* const context = ggml_init({bytes, nullptr, false});
    ggml_tensor* const query = ggml_new_tensor_3d(context, GGML_TYPE_F32, dim, 1, query_heads);
    ggml_tensor* const k = ggml_new_tensor_3d(context, type, dim, entries, kv_heads);
    ggml_tensor* const v = ggml_new_tensor_3d(context, type, dim, entries, kv_heads);
    std::memcpy(query->data, q.data(), q.size() * sizeof(float));
    const auto count = static_cast<std::size_t>(dim * entries * kv_heads);
    std::vector<float> stored_keys = fill(k, random_values(count, 2));
    std::vector<float> stored_values = fill(v, random_values(count, 3));
    if (keys != nullptr) *keys = std::move(stored_keys);
    if (values != nullptr) *values = std::move(stored_values);
    const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(dim)));
    ggml_tensor* const result = ggml_flash_attn_ext(context, query, k, v, nullptr, scale, 0, 0);
    ggml_cgraph* const graph = ggml_new_graph(context);
    ggml_build_forward_expand(graph, result);
    return {context, graph, result};
}

double error_of(const Case& first, std::int64_t kv_heads, const std::vector<float>& q, const std::vector<float>& keys,
                const std::vector<float>& values) {
    double worst = 0;
    for (std::int64_t h = 0; h < query_heads; h += 5) {
        const std::int64_t list = h / (query_heads / kv_heads) * entries * dim;
        std::vector<double> sum(dim);
        double total = 0;
        for (std::int64_t i = 0; i < entries; ++i) {
            double score = 0;
            for (std::int64_t d = 0; d < dim; ++d) {
                score += static_cast<double>(q[static_cast<std::size_t>(h * dim + d)]) *
                         static_cast<double>(keys[static_cast<std::size_t>(list + i * dim + d)]);
            }
            const double weight = std::exp(score / std::sqrt(static_cast<double>(dim)));
            total += weight;
            for (std::int64_t d = 0; d < dim; ++d) {
                sum[static_cast<std::size_t>(d)] +=
                    weight * static_cast<double>(values[static_cast<std::size_t>(list + i * dim + d)]);
            }
        }
        const auto* const result = static_cast<const float*>(first.result->data) + h * dim;
        for (std::int64_t d = 0; d < dim; ++d) {
            worst =
                std::max(worst, std::abs(static_cast<double>(result[d]) - sum[static_cast<std::size_t>(d)] / total));
        }
    }
    return worst;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const char* const name = argv[1];
    const std::int64_t kv_heads = std::atoll(argv[2]);
    const ggml_type type = std::strcmp(name, "q8_0") == 0   ? GGML_TYPE_Q8_0
                           : std::strcmp(name, "q4_0") == 0 ? GGML_TYPE_Q4_0
                                                            : GGML_TYPE_F16;
    ggml_cpu_init();
    const std::vector<float> q = random_values(static_cast<std::size_t>(dim * query_heads), 1);
    std::vector<float> keys, values;
    std::vector<Case> cases{make_case(type, kv_heads, q, &keys, &values)};
    const std::size_t one = 2 * ggml_row_size(type, dim) * static_cast<std::size_t>(entries * kv_heads);
    while (cases.size() * one < held_bytes) cases.push_back(make_case(type, kv_heads, q, nullptr, nullptr));
    const auto run = [](const Case& some) { return ggml_graph_compute_with_ctx(some.context, some.graph, 1); };
    if (run(cases[0]) != GGML_STATUS_SUCCESS) return 1;
    // Queries are rounded to the keys' type.
    if (const double error = error_of(cases[0], kv_heads, q, keys, values); !(error < 2e-3)) {
        std::fprintf(stderr, "ggml_attention: wrong by %g\n", error);
        return 1;
    }
    double best = 1e9;
    for (int round = 0; round < 60; ++round) {
        const Case& some = cases[static_cast<std::size_t>(round) % cases.size()];
        const auto begin = std::chrono::steady_clock::now();
        run(some);
        best =
            std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    }
    std::printf("%.3f\n", best);
    return 0;
}
