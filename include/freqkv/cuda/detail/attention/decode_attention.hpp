// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/attention_task.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// Attention of tokens to a cache that is in device memory, each token by itself. A list is cut into stretches of a
// fixed number of entries; a block attends to one of them for up to `Heads` query heads of a KV head's group, so that
// keys and values are read once for all of them, and the parts are combined afterwards. What a stretch is and in which
// order parts are added does not depend on the device or on what else is in the batch.
namespace freqkv::cuda::detail {

/// Entries of a stretch, which are the threads of a block.
inline constexpr int stretch_entries = 128;

/// Where a token of the batch stands.
struct TokenPlace {
    std::int32_t list;    ///< the sequence's list in the cache
    std::int32_t behind;  ///< tokens of the same call before it: it is entry sizes[list] + behind
};

/// A batch of tokens, whose rows of queries and results follow each other.
template <class Q, class T>
struct DecodeTask : AttentionTask<Q, T> {
    const TokenPlace* places = nullptr;  ///< [tokens]
    float* parts = nullptr;              ///< scratch, parts_size()
    int tokens = 0;
    bool wide = false;  ///< rows may be read 8 keys and 4 values at a time

    /// What token `token` attends to: all up to itself. (Never more than there are, also for a graph that is launched
    /// once too often.)
    FREQKV_INLINE int entries(int token) const {
        const int entries = this->sizes[places[token].list] + places[token].behind + 1;
        return entries < this->capacity ? entries : this->capacity;
    }
    FREQKV_INLINE int stretches() const { return (this->capacity + stretch_entries - 1) / stretch_entries; }
    FREQKV_INLINE int query_heads() const { return this->kv_heads * this->group; }
    /// Where one query head's part of one stretch begins: value_dim sums, the greatest score, the sum of weights.
    FREQKV_INLINE float* part(int token, int query_head, int stretch) const {
        const Index row = (Index{token} * query_heads() + query_head) * stretches() + stretch;
        return parts + row * (this->value_dim + 2);
    }
    FREQKV_INLINE Index parts_size() const {
        return Index{tokens} * query_heads() * stretches() * (this->value_dim + 2);
    }
};

/// Where the floats of attend_stretch() lie in shared memory, one array behind the other. Heads come last in all but
/// the sums, so that a thread reads what belongs to all heads at once.
struct DecodeLayout {
    static constexpr int runs = 8;  ///< of entries, each of which one thread goes through for a head
    static constexpr int warps = stretch_entries / 32;  ///< each of which sums values of its own entries

    int heads = 0;
    int key_dim = 0;
    int value_dim = 0;

    FREQKV_INLINE int query(int d, int head = 0) const { return d * heads + head; }
    FREQKV_INLINE int weight(int entry, int head = 0) const { return weights() + entry * heads + head; }
    /// The greatest score of a run, later the sum of its weights.
    FREQKV_INLINE int of_run(int run, int head) const { return run_values() + run * heads + head; }
    FREQKV_INLINE int greatest(int head) const { return totals() + head; }
    FREQKV_INLINE int sum_of_weights(int head) const { return totals() + heads + head; }
    FREQKV_INLINE int value(int warp, int head, int d) const {
        return values() + (warp * heads + head) * value_dim + d;
    }
    FREQKV_INLINE int size() const { return values() + warps * heads * value_dim; }

private:
    FREQKV_INLINE int weights() const { return heads * key_dim; }
    FREQKV_INLINE int run_values() const { return weights() + heads * stretch_entries; }
    FREQKV_INLINE int totals() const { return run_values() + heads * runs; }
    FREQKV_INLINE int values() const { return totals() + 2 * heads; }
};

/// Floats in shared memory that a block of attend_stretch() takes.
FREQKV_INLINE int decode_floats(int heads, int key_dim, int value_dim) {
    return DecodeLayout{heads, key_dim, value_dim}.size();
}

/// The part of stretch `stretch` for query heads [first_head, first_head + Heads) of KV head `kv_head`'s group; those
/// behind the group are computed as its last one and not stored. `memory` has decode_floats() floats.
template <int Heads, class Q, class T, ThreadBlock Block, SharedFloats Memory>
FREQKV_INLINE void attend_stretch(const DecodeTask<Q, T>& task, int token, int kv_head, int first_head, int stretch,
                                  Block block, Memory memory) {
    using freqkv::detail::unrolled;
    const int entries = task.entries(token);
    const int begin = stretch * stretch_entries;
    const int count = entries - begin < stretch_entries ? entries - begin : stretch_entries;
    if (count <= 0) return;
    const int key_dim = task.key_dim;
    const int value_dim = task.value_dim;
    const auto keys = task.key_rows(task.places[token].list, kv_head);
    const auto values = task.value_rows(task.places[token].list, kv_head);
    const auto head_of = [&](int h) {
        const int in_group = first_head + h < task.group ? first_head + h : task.group - 1;
        return kv_head * task.group + in_group;
    };
    const DecodeLayout layout{Heads, key_dim, value_dim};

    // Queries, rotated at the position of the token and scaled.
    const int columns = task.key_columns.count();
    block.each(Heads * columns, [&](int i) {
        const int h = i % Heads;
        const int c = i / Heads;
        const Q* const query = task.queries + token * task.query_token_stride + head_of(h) * task.query_head_stride;
        const int a = task.key_columns.first(c);
        const int b = task.key_columns.second(c);
        const Complex<float> x = task.query_column(query, c, entries - 1);
        memory.store(layout.query(a, h), task.scale * x.re);
        if (b < key_dim) memory.store(layout.query(b, h), task.scale * x.im);
    });

    // Scores: a thread reads the key of one entry for all heads.
    block.each(stretch_entries, [&](int e) {
        float score[Heads];
        unrolled<Heads>([&](auto h) FREQKV_INLINE_LAMBDA { score[h] = e < count ? 0.0F : -INFINITY; });
        if (e < count) {
            const auto key = keys.row(begin + e);
            const auto add = [&](int d, float k) FREQKV_INLINE_LAMBDA {
                const Elements<float, Heads> query = memory.template load<Heads>(layout.query(d));
                unrolled<Heads>([&](auto h) FREQKV_INLINE_LAMBDA { score[h] += k * query.values[h]; });
            };
            if (task.wide) {
#if defined(__CUDA_ARCH__)
#pragma unroll 4
#endif
                for (int d = 0; d < key_dim; d += 8) {
                    const Elements<float, 8> eight = key.template load<8>(d);
                    unrolled<8>([&](auto i) FREQKV_INLINE_LAMBDA { add(d + static_cast<int>(i), eight.values[i]); });
                }
            } else {
                for (int d = 0; d < key_dim; ++d) add(d, key.template load<1>(d).values[0]);
            }
        }
        unrolled<Heads>([&](auto h)
                            FREQKV_INLINE_LAMBDA { memory.store(layout.weight(e, static_cast<int>(h)), score[h]); });
    });

    // The greatest score of each head, in two steps; then weights and their sum alike.
    constexpr int runs = DecodeLayout::runs;
    constexpr int run = stretch_entries / runs;
    block.each(runs * Heads, [&](int i) {
        float greatest = -INFINITY;
        for (int e = 0; e < run; ++e) {
            greatest = fmaxf(greatest, memory.load(layout.weight(i / Heads * run + e, i % Heads)));
        }
        memory.store(layout.of_run(i / Heads, i % Heads), greatest);
    });
    block.each(Heads, [&](int h) {
        float greatest = memory.load(layout.of_run(0, h));
        for (int i = 1; i < runs; ++i) greatest = fmaxf(greatest, memory.load(layout.of_run(i, h)));
        memory.store(layout.greatest(h), greatest);
    });
    block.each(runs * Heads, [&](int i) {
        const int h = i % Heads;
        const float greatest = memory.load(layout.greatest(h));
        float sum = 0;
        for (int e = 0; e < run; ++e) {
            const int at = layout.weight(i / Heads * run + e, h);
            const float weight = expf(memory.load(at) - greatest);
            memory.store(at, weight);
            sum += weight;
        }
        memory.store(layout.of_run(i / Heads, h), sum);
    });
    block.each(Heads, [&](int h) {
        float sum = memory.load(layout.of_run(0, h));
        for (int i = 1; i < runs; ++i) sum += memory.load(layout.of_run(i, h));
        memory.store(layout.sum_of_weights(h), sum);
    });

    // Values: a thread takes 4 dimensions of every fourth entry, or one where rows cannot be read at once.
    constexpr int warps = DecodeLayout::warps;
    const auto add_values = [&](auto width) FREQKV_INLINE_LAMBDA {
        constexpr int w = static_cast<int>(decltype(width)::value);
        const int pieces = value_dim / w;
        block.each(warps * pieces, [&](int i) {
            const int warp = i / pieces;
            const int d = i % pieces * w;
            float sum[Heads][w] = {};
            for (int e = warp; e < count; e += warps) {
                const Elements<float, w> some = values.row(begin + e).template load<w>(d);
                const Elements<float, Heads> weight = memory.template load<Heads>(layout.weight(e));
                unrolled<Heads>([&](auto h) FREQKV_INLINE_LAMBDA {
                    unrolled<w>([&](auto j) FREQKV_INLINE_LAMBDA { sum[h][j] += weight.values[h] * some.values[j]; });
                });
            }
            unrolled<Heads>([&](auto h) FREQKV_INLINE_LAMBDA {
                unrolled<w>([&](auto j) FREQKV_INLINE_LAMBDA {
                    memory.store(layout.value(warp, static_cast<int>(h), d + static_cast<int>(j)), sum[h][j]);
                });
            });
        });
    };
    if (task.wide) {
        add_values(freqkv::detail::Constant<4>{});
    } else {
        add_values(freqkv::detail::Constant<1>{});
    }
    block.each(Heads * (value_dim + 2), [&](int i) {
        const int h = i / (value_dim + 2);
        const int d = i % (value_dim + 2);
        if (first_head + h >= task.group) return;
        float value = 0;
        if (d < value_dim) {
            for (int warp = 0; warp < warps; ++warp) value += memory.load(layout.value(warp, h, d));
        } else {
            value = memory.load(d == value_dim ? layout.greatest(h) : layout.sum_of_weights(h));
        }
        task.part(token, head_of(h), stretch)[d] = value;
    });
}

/// The result of one query head of one token, from the parts of its stretches in their order.
template <class Q, class T, ThreadBlock Block>
FREQKV_INLINE void combine_stretches(const DecodeTask<Q, T>& task, int token, int query_head, Block block) {
    const int value_dim = task.value_dim;
    const int stretches = (task.entries(token) + stretch_entries - 1) / stretch_entries;
    const float* const parts = task.part(token, query_head, 0);
    Q* const result = task.results + token * task.result_token_stride + query_head * task.result_head_stride;
    block.each(value_dim, [&](int d) {
        float greatest = -INFINITY;
        for (int s = 0; s < stretches; ++s) greatest = fmaxf(greatest, parts[Index{s} * (value_dim + 2) + value_dim]);
        float sum = 0;
        float weights = 0;
        for (int s = 0; s < stretches; ++s) {
            const float* const part = parts + Index{s} * (value_dim + 2);
            const float weight = expf(part[value_dim] - greatest);
            sum += weight * part[d];
            weights += weight * part[value_dim + 1];
        }
        result[d] = from_float<Q>(sum / weights);
    });
}

}  // namespace freqkv::cuda::detail
