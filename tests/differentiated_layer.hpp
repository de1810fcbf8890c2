// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "freqkv/adjoint/chunked_attention.hpp"
#include "freqkv/policy/local_window.hpp"
#include "naive.hpp"

namespace freqkv::adjoint_test {

// The first half of what may be compressed becomes a third, the latter half but two entries between them a half.
struct TwoSpans {
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        const Index half = (layout.entries - layout.sinks - layout.recent) / 2;
        return {{layout.sinks, half, half / 3}, {layout.sinks + half + 2, half - 2, (half - 2) / 2}};
    }
};

// Keeps the entries with the largest keys.
struct SelectLargest {
    template <class T>
    Index scratch_bytes(const SpanReader<T>& span, Index) const {
        return (span.size() + 2 * span.key_dim()) * static_cast<Index>(sizeof(double));
    }
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        auto* const sizes = reinterpret_cast<double*>(scratch);
        auto* const key = reinterpret_cast<typename SpanReader<T>::C*>(sizes + span.size());
        for (Index i = 0; i < span.size(); ++i) {
            span.load_key(i, key, key + span.key_dim());
            sizes[i] = 0;
            for (Index d = 0; d < span.key_dim(); ++d) sizes[i] += static_cast<double>(key[d] * key[d]);
        }
        Index count = 0;
        for (Index i = 0; i < span.size(); ++i) {
            const auto larger = std::count_if(sizes, sizes + span.size(), [&](double size) { return size > sizes[i]; });
            if (larger < keep) chosen[count++] = i;
        }
        return count;
    }
};

struct Shape {
    Index tokens = 0;
    Index capacity = 24;
    Index sinks = 4;
    Index recent = 0;
    Index query_heads = 4;
    Index kv_heads = 2;
    Index key_dim = 10;
    Index value_dim = 7;
    Index rotated_dims = 8;
    RopePairing pairing = RopePairing::adjacent;
    std::vector<Index> head_capacities{};
    Positions positions = Positions::index;
    bool weighted = false;

    CacheOptions options() const {
        return {.kv_heads = kv_heads,
                .query_heads = query_heads,
                .key_dim = key_dim,
                .value_dim = value_dim,
                .capacity = capacity,
                .sinks = sinks,
                .recent = recent,
                .positions = positions,
                .weighted = weighted,
                .head_capacities = head_capacities};
    }
    // The table ends before the cache does, or the text.
    template <class C>
    Rope<C> rope() const {
        const Rope<C> rope({.head_dim = key_dim, .rotated_dims = rotated_dims, .base = 100, .pairing = pairing},
                           capacity / 2);
        return positions == Positions::text ? rope.in_half_steps(tokens / 2) : rope;
    }
    std::string name() const {
        return std::to_string(tokens) + " tokens, capacity " + std::to_string(capacity) + ", sinks " +
               std::to_string(sinks) + ", recent " + std::to_string(recent) + ", heads " + std::to_string(query_heads) +
               "/" + std::to_string(kv_heads) +
               (pairing == RopePairing::adjacent ? ", adjacent pairs" : ", pairs in two halves") +
               (positions == Positions::text ? ", positions of the text" : "") + (weighted ? ", weighted" : "");
    }
};

template <class C>
std::vector<C> random(Index count, naive::Random& next) {
    std::vector<C> x(static_cast<std::size_t>(count));
    for (C& element : x) element = static_cast<C>(next());
    return x;
}

// One text through a layer, forward and backward. Every kind of view has strides of its own.
template <class C, class P>
class Layer {
public:
    Layer(const Shape& shape, const P& policy, const AttentionOptions& options = {})
        : shape_(shape), attention(shape.options(), shape.template rope<C>(), policy, options) {
        naive::Random next(7);
        q = random<C>(shape.query_heads * shape.tokens * shape.key_dim, next);
        k = random<C>(shape.kv_heads * shape.tokens * shape.key_dim, next);
        v = random<C>(shape.kv_heads * shape.tokens * shape.value_dim, next);
        weights = random<C>(shape.query_heads * shape.tokens * shape.value_dim, next);
        out.resize(weights.size());
        d_q.resize(q.size(), NAN);
        d_k.resize(k.size(), NAN);
        d_v.resize(v.size(), NAN);
    }

    // Token-major.
    template <class X>
    auto queries(X& x) const {
        return view_of(x.data()).token_major(x.data(), shape_.query_heads, shape_.tokens, shape_.key_dim);
    }
    template <class X>
    auto results(X& x) const {
        return view_of(x.data()).token_major(x.data(), shape_.query_heads, shape_.tokens, shape_.value_dim);
    }
    // Head-major.
    template <class X>
    auto keys(X& x) const {
        return decltype(view_of(x.data()))(x.data(), shape_.kv_heads, shape_.tokens, shape_.key_dim);
    }
    // Heads innermost.
    template <class X>
    auto values(X& x) const {
        return decltype(view_of(x.data()))(x.data(), shape_.kv_heads, shape_.tokens, shape_.value_dim, 1,
                                           shape_.kv_heads, shape_.kv_heads * shape_.tokens);
    }

    template <Executor E = SerialExecutor>
    void forward(const E& executor = {}) {
        attention.forward(queries(q), keys(k), values(v), results(out), executor);
    }
    template <Executor E = SerialExecutor>
    void backward(const E& executor = {}) {
        attention.backward(queries(q), keys(k), values(v), results(out), results(weights), queries(d_q), keys(d_k),
                           values(d_v), executor);
    }
    // What is differentiated.
    double weighted_sum() {
        forward();
        double sum = 0;
        for (std::size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(out[i] * weights[i]);
        return sum;
    }

    Shape shape_;
    DifferentiableAttention<C, P> attention;
    std::vector<C> q, k, v, weights, out, d_q, d_k, d_v;

private:
    template <class T>
    static KVView<T> view_of(T*) {
        return {};
    }
};

inline double largest(const std::vector<double>& x) {
    double result = 0;
    for (const double element : x) result = std::max(result, std::abs(element));
    return result;
}

}  // namespace freqkv::adjoint_test
