// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/cached_rows.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/packed.hpp"

namespace freqkv::cuda::detail {

/// Attention of new tokens to one layer's cache in device memory, which holds their keys and values already, behind the
/// entries of before. Q is the type of queries and results, T that of the cache. Those of a packed cache are
/// transformed as its rows are, which is the caller's business: no kernel of attention undoes it.
template <class Q, class T>
struct AttentionTask {
    const Q* queries = nullptr;  ///< [query_heads, tokens, key_dim], un-rotated
    Index query_token_stride = 0;
    Index query_head_stride = 0;
    Q* results = nullptr;  ///< [query_heads, tokens, value_dim]
    Index result_token_stride = 0;
    Index result_head_stride = 0;
    CachedMemory<T> keys{};                      ///< [lists, kv_heads, capacity, key_dim], entry i rotated at i
    CachedMemory<T> values{};                    ///< [lists, kv_heads, capacity, value_dim]
    const std::int32_t* sizes = nullptr;         ///< [lists]: entries before this call
    const std::int32_t* packed = nullptr;        ///< [lists]: those that are packed, of a packed cache
    const std::uint64_t* frequencies = nullptr;  ///< of the rope; null: none
    Columns key_columns;                         ///< how RoPE pairs the dimensions of a query
    int kv_heads = 0;
    int group = 1;  ///< query heads of a KV head
    int capacity = 0;
    int key_dim = 0;
    int value_dim = 0;
    float scale = 1;

    /// The keys, or values, of a list's KV head.
    FREQKV_INLINE auto key_rows(int list, int kv_head) const { return rows(keys, key_dim, list, kv_head); }
    FREQKV_INLINE auto value_rows(int list, int kv_head) const { return rows(values, value_dim, list, kv_head); }

    /// Column `column` of a query row, rotated at `position`.
    FREQKV_INLINE Complex<float> query_column(const Q* query, int column, int position) const {
        const int a = key_columns.first(column);
        const int b = key_columns.second(column);
        const Complex<float> x{to_float(query[a]), b < key_dim ? to_float(query[b]) : 0.0F};
        if (frequencies == nullptr || column >= key_columns.pairs) return x;
        const Complex<float> angle = rope_angle(position, frequencies[column]);
        return x.turned(angle.re, angle.im);
    }

private:
    FREQKV_INLINE auto rows(const CachedMemory<T>& memory, int dim, int list, int kv_head) const {
        const Index head = Index{list} * kv_heads + kv_head;
        if constexpr (is_packed<T>) {
            return memory.of(head, packed[list]);
        } else {
            return PlainRows<T>{memory + head * capacity * dim, dim};
        }
    }
};

}  // namespace freqkv::cuda::detail
