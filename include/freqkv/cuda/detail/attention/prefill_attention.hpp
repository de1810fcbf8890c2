// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/attention_task.hpp"
#include "freqkv/cuda/detail/attention/matrix_block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"

// Attention of many tokens at once to a cache of 16-bit elements, or of packed ones, which become such on their way to
// shared memory; on tensor cores (Dao, FlashAttention-2, 2023). A
// block takes some rows: queries of one KV head's group, token by token. It goes through the entries that they see, a
// tile at a time, and keeps the softmax as it goes.
namespace freqkv::cuda::detail {

/// Tokens of a call that follow each other in one list.
struct PrefillPlace {
    std::int32_t list;
    std::int32_t first;   ///< the first token's row in queries and results
    std::int32_t behind;  ///< tokens of the same call before it in the list
    std::int32_t count;
};

/// Sizes of what a block does, for keys and values of Dim dimensions. Two tiles of 16 rows for each warp, so that each
/// key and value that a warp loads from shared memory serves two products: with one, loads would take as long as
/// products on an A100 and longer on an H100.
template <int Dim>
struct PrefillShape {
    static constexpr int dim = Dim;
    static constexpr int warps = 4;
    static constexpr int threads = 32 * warps;
    static constexpr int row_tiles = 2;
    static constexpr int rows = 16 * row_tiles * warps;
    static constexpr int entries = 64;  ///< of a tile
    static constexpr int row_chunks = Dim / 8;
    static constexpr int keys = rows * row_chunks;  ///< the first chunk of the tile of keys, behind the queries
    static constexpr int values = keys + entries * row_chunks;
    static constexpr int chunks = values + entries * row_chunks;
    static constexpr int shared_bytes = 16 * chunks;

    static_assert(Dim % 64 == 0 && threads / row_chunks % 8 == 0);

    /// Where a row's chunk of 8 elements is: neighbouring rows begin at different banks, so that a matrix is loaded
    /// without conflicts.
    FREQKV_INLINE static int chunk(int row, int c) { return row * row_chunks + (c ^ (row & 7)); }
};

/// Rows [tile * Shape::rows, + Shape::rows) of a place for one KV head: row r is token r / group, query head r % group
/// of the head's group.
template <class Shape, class Q, class T, MatrixBlock<MatrixElement<T>> Block>
FREQKV_INLINE void attend_rows(const AttentionTask<Q, T>& task, const PrefillPlace& place, int kv_head, int tile,
                               Block& block) {
    using freqkv::detail::unrolled;
    constexpr int row_tiles = Shape::row_tiles;
    constexpr int score_tiles = Shape::entries / 8;
    constexpr int dim_tiles = Shape::dim / 8;
    const int group = task.group;
    const int first_row = tile * Shape::rows;
    const int rows_left = place.count * group - first_row;
    if (rows_left <= 0) return;
    const int last_row = rows_left - 1;  // rows behind it are computed as it is, and not stored
    const int before = task.sizes[place.list] + place.behind;
    const auto token_of = [&](int row) { return (first_row + (row < last_row ? row : last_row)) / group; };
    const auto row_of = [&](const auto& thread, int r) {
        return thread.warp() * (16 * row_tiles) + 8 * r + thread.lane() / 4;
    };
    const auto seen_by = [&](int row) {
        const int entries = before + token_of(row) + 1;
        return entries < task.capacity ? entries : task.capacity;
    };
    const int entries = seen_by(Shape::rows - 1);
    const int seen_by_all = seen_by(0);

    using Element = MatrixElement<T>;
    const auto keys = task.key_rows(place.list, kv_head);
    const auto values = task.value_rows(place.list, kv_head);
    constexpr int step = Shape::threads / Shape::row_chunks;  // a thread's rows of a tile are so far apart
    const auto copy_tile = [&](const auto& from, int first_entry, int to) FREQKV_INLINE_LAMBDA {
        const int count = entries - first_entry;
        block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
            const int first = thread.index / Shape::row_chunks;
            const int c = thread.index % Shape::row_chunks;
            // Zeros behind the entries: what is in memory there may be no number.
            if constexpr (is_packed<T>) {
                // Sums and scores leave few registers: one row at a time.
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
                for (int row = first; row < Shape::entries; row += step) {
                    Elements<float, 8> eight{};
                    if (row < count) eight = from.row(first_entry + row).template load<8>(8 * c);
                    Elements<Element, 8> rounded;
                    unrolled<8>([&](auto j)
                                    FREQKV_INLINE_LAMBDA { rounded.values[j] = from_float<Element>(eight.values[j]); });
                    block.store(thread, to + Shape::chunk(row, c), rounded);
                }
            } else {
                const T* const at = from.row(first_entry + first).at + 8 * c;
                const int chunk = to + Shape::chunk(first, c);
                const auto copy = [&](auto whole) FREQKV_INLINE_LAMBDA {
                    unrolled<Shape::entries / step>([&](auto i) FREQKV_INLINE_LAMBDA {
                        constexpr int behind = static_cast<int>(decltype(i)::value) * step;
                        const bool inside = decltype(whole)::value || first + behind < count;
                        block.copy(thread, chunk + Shape::chunk(behind, 0), at + behind * Shape::dim, inside);
                    });
                };
                if (count >= Shape::entries) {
                    copy(freqkv::detail::Constant<1>{});
                } else {
                    copy(freqkv::detail::Constant<0>{});
                }
            }
        });
    };
    copy_tile(keys, 0, Shape::keys);

    // Queries, rotated at the positions of their tokens and rounded to the cache's type.
    block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
        constexpr int columns = Shape::dim / 2;
        for (int n = thread.index; n < Shape::rows * columns; n += Shape::threads) {
            const int row = n / columns;
            const int column = n % columns;
            const int of_place = first_row + (row < last_row ? row : last_row);
            const int token = of_place / group;
            const Q* const query = task.queries + (place.first + token) * task.query_token_stride +
                                   (kv_head * group + of_place % group) * task.query_head_stride;
            const Complex<float> x = task.query_column(query, column, before + token);
            const auto store = [&](int d, float value) FREQKV_INLINE_LAMBDA {
                block.store(thread, 8 * Shape::chunk(row, d / 8) + d % 8, from_float<Element>(value));
            };
            store(task.key_columns.first(column), x.re);
            store(task.key_columns.second(column), x.im);
        }
    });

    typename Block::template Registers<Sums> sums[row_tiles][dim_tiles];
    typename Block::template Registers<RowValues<row_tiles>> greatest;  // score so far
    typename Block::template Registers<RowValues<row_tiles>> weights;   // their sum so far, of the thread's columns
    block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
        unrolled<row_tiles * dim_tiles>([&](auto i) FREQKV_INLINE_LAMBDA {
            sums[static_cast<int>(i) / dim_tiles][static_cast<int>(i) % dim_tiles](thread) = Sums{};
        });
        unrolled<2 * row_tiles>([&](auto r) FREQKV_INLINE_LAMBDA {
            greatest(thread).values[r] = -INFINITY;
            weights(thread).values[r] = 0;
        });
    });
    const float factor = task.scale * 1.44269504F;  // weights are powers of 2

    for (int first_entry = 0; first_entry < entries; first_entry += Shape::entries) {
        block.wait();
        block.barrier();  // the tile of keys is there, and the values before have been used
        copy_tile(values, first_entry, Shape::values);

        // Scores: queries times keys.
        typename Block::template Registers<Sums> scores[row_tiles][score_tiles];
        block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
            unrolled<row_tiles * score_tiles>([&](auto i) FREQKV_INLINE_LAMBDA {
                scores[static_cast<int>(i) / score_tiles][static_cast<int>(i) % score_tiles](thread) = Sums{};
            });
        });
        unrolled<Shape::dim / 16>([&](auto k) FREQKV_INLINE_LAMBDA {
            typename Block::template Registers<Fragments> queries[row_tiles];
            unrolled<row_tiles>([&](auto i) FREQKV_INLINE_LAMBDA {
                block.load(queries[i], [&](int lane, int warp) FREQKV_INLINE_LAMBDA {
                    return Shape::chunk((warp * row_tiles + static_cast<int>(i)) * 16, 0) +
                           Shape::chunk(lane % 16, 2 * static_cast<int>(k) + lane / 16);
                });
            });
            unrolled<score_tiles / 2>([&](auto n) FREQKV_INLINE_LAMBDA {
                typename Block::template Registers<Fragments> of_keys;
                block.load(of_keys, [&](int lane, int /*warp*/) FREQKV_INLINE_LAMBDA {
                    return Shape::keys + Shape::chunk(16 * static_cast<int>(n), 0) +
                           Shape::chunk(lane % 8 + lane / 16 * 8, 2 * static_cast<int>(k) + lane / 8 % 2);
                });
                unrolled<row_tiles>([&](auto i) FREQKV_INLINE_LAMBDA {
                    block.template multiply<0>(scores[i][2 * n], queries[i], of_keys);
                    block.template multiply<1>(scores[i][2 * n + 1], queries[i], of_keys);
                });
            });
        });
        if (first_entry + Shape::entries > seen_by_all) {
            block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
                unrolled<2 * row_tiles>([&](auto r) FREQKV_INLINE_LAMBDA {
                    const int seen = seen_by(row_of(thread, static_cast<int>(r))) - first_entry;
                    unrolled<score_tiles>([&](auto n) FREQKV_INLINE_LAMBDA {
                        const int entry = 8 * static_cast<int>(n) + thread.lane() % 4 * 2;
                        Sums& score = scores[r / 2][n](thread);
                        if (entry >= seen) score.values[r % 2 * 2] = -INFINITY;
                        if (entry + 1 >= seen) score.values[r % 2 * 2 + 1] = -INFINITY;
                    });
                });
            });
        }
        block.wait();
        block.barrier();  // the tile of values is there, and the keys have been used
        if (first_entry + Shape::entries < entries) copy_tile(keys, first_entry + Shape::entries, Shape::keys);

        // Weights relative to the greatest score so far; what was summed before shrinks where that has grown.
        typename Block::template Registers<RowValues<row_tiles>> now;
        block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
            unrolled<2 * row_tiles>([&](auto r) FREQKV_INLINE_LAMBDA {
                float most = greatest(thread).values[r];
                unrolled<score_tiles>([&](auto n) FREQKV_INLINE_LAMBDA {
                    const Sums& score = scores[r / 2][n](thread);
                    most = fmaxf(most, fmaxf(score.values[r % 2 * 2], score.values[r % 2 * 2 + 1]));
                });
                now(thread).values[r] = most;
            });
        });
        block.quad_max(now);
        block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
            unrolled<2 * row_tiles>([&](auto r) FREQKV_INLINE_LAMBDA {
                constexpr int at = static_cast<int>(decltype(r)::value) % 2 * 2;
                const float most = now(thread).values[r];
                const float shrink = block.exp2((greatest(thread).values[r] - most) * factor);
                greatest(thread).values[r] = most;
                unrolled<dim_tiles>([&](auto d) FREQKV_INLINE_LAMBDA {
                    Sums& sum = sums[r / 2][d](thread);
                    sum.values[at] *= shrink;
                    sum.values[at + 1] *= shrink;
                });
                float weight = weights(thread).values[r] * shrink;
                unrolled<score_tiles>([&](auto n) FREQKV_INLINE_LAMBDA {
                    Sums& score = scores[r / 2][n](thread);
                    score.values[at] = block.exp2(score.values[at] * factor - most * factor);
                    score.values[at + 1] = block.exp2(score.values[at + 1] * factor - most * factor);
                    weight += score.values[at] + score.values[at + 1];
                });
                weights(thread).values[r] = weight;
            });
        });

        // Sums: weights, of which a thread holds what it needs as a factor already, times values.
        unrolled<Shape::entries / 16>([&](auto k) FREQKV_INLINE_LAMBDA {
            typename Block::template Registers<Fragments> rounded[row_tiles];
            block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
                unrolled<row_tiles>([&](auto i) FREQKV_INLINE_LAMBDA {
                    unrolled<4>([&](auto word) FREQKV_INLINE_LAMBDA {
                        const Sums& weight = scores[i][2 * k + word / 2](thread);
                        rounded[i](thread).words[word] =
                            packed<Element>(weight.values[word % 2 * 2], weight.values[word % 2 * 2 + 1]);
                    });
                });
            });
            unrolled<dim_tiles / 2>([&](auto d) FREQKV_INLINE_LAMBDA {
                typename Block::template Registers<Fragments> of_values;
                block.load_transposed(of_values, [&](int lane, int /*warp*/) FREQKV_INLINE_LAMBDA {
                    return Shape::values + Shape::chunk(16 * static_cast<int>(k), 0) +
                           Shape::chunk(lane % 16, 2 * static_cast<int>(d) + lane / 16);
                });
                unrolled<row_tiles>([&](auto i) FREQKV_INLINE_LAMBDA {
                    block.template multiply<0>(sums[i][2 * d], rounded[i], of_values);
                    block.template multiply<1>(sums[i][2 * d + 1], rounded[i], of_values);
                });
            });
        });
    }

    block.quad_sum(weights);
    block.each([&](const auto& thread) FREQKV_INLINE_LAMBDA {
        unrolled<2 * row_tiles>([&](auto r) FREQKV_INLINE_LAMBDA {
            constexpr int at = static_cast<int>(decltype(r)::value) % 2 * 2;
            const int row = row_of(thread, static_cast<int>(r));
            if (row > last_row) return;
            const int of_place = first_row + row;
            const float part = 1 / weights(thread).values[r];
            Q* const result = task.results + (place.first + of_place / group) * task.result_token_stride +
                              (kv_head * group + of_place % group) * task.result_head_stride;
            unrolled<dim_tiles>([&](auto d) FREQKV_INLINE_LAMBDA {
                const Sums& sum = sums[r / 2][d](thread);
                const int to = 8 * static_cast<int>(d) + thread.lane() % 4 * 2;
                result[to] = from_float<Q>(part * sum.values[at]);
                result[to + 1] = from_float<Q>(part * sum.values[at + 1]);
            });
        });
    });
}

}  // namespace freqkv::cuda::detail
