// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/dense_rows.hpp"
#include "freqkv/detail/cache/list_compressor.hpp"
#include "freqkv/detail/cache/row_staging.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/foreign_rows.hpp"
#include "freqkv/ggml.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::inline FREQKV_ISA {

/// One call of compress_in_place().
struct InPlaceOptions {
    Index sinks = 4;                     ///< first entries, kept as they are
    Index recent = 0;                    ///< latest entries, kept as they are
    std::span<const Index> positions{};  ///< at which the stored keys are rotated; empty: 0, 1, 2, …
    Index compressions = 0;              ///< compressions of this cache so far, for schedules that depend on it
    Index layer = 0;                     ///< for reports
    Observer observer{};
};

/// Compresses caches that belong to another engine, in that engine's memory. It holds what is needed from
/// call to call (the transform's plans and scratch), so keep one for all layers of a model.
///
/// T is the stored element type: float, double, Eigen::half, Eigen::bfloat16, _Float16, Half, BFloat16 (to which an
/// engine casts pointers to 16-bit integers). InPlaceCompressor<float, P> also takes quantised rows (ForeignRows). Not
/// to be used from two threads at once.
template <class T, class P = LowPass<>>
class InPlaceCompressor {
    static_assert(detail::check_stored<T>());
    static_assert(!is_packed<T>, "freqkv: packed rows are compressed in a SinkedKVCache only");
    static_assert(
        !ggml::Block<T>,
        "freqkv: ggml's blocks are compressed by an InPlaceCompressor<float, Policy>, which takes BlockViews");
    static_assert(!GrowingPolicy<P>, "freqkv: this policy compresses nothing (grows)");
    static_assert(detail::check_policy<P, T>());
    static_assert(!reads_attention_mass<detail::CodecOf<P>>(),
                  "freqkv: this policy reads attention, which a foreign cache does not sum; use SinkedKVCache");
    static_assert(query_window<detail::CodecOf<P>>() == 0,
                  "freqkv: this policy reads queries, which a foreign cache does not hold; use SinkedKVCache");

public:
    using C = Arithmetic<T>;

    /// `rope` says how the stored keys were rotated (a table of as many positions as the cache has
    /// entries serves best); without it they are taken to be stored before RoPE.
    explicit InPlaceCompressor(P policy = P{}, std::optional<Rope<C>> rope = std::nullopt)
        : compressor_(std::move(policy)), rope_(std::move(rope)) {}

    /// Compresses all tokens between sinks and recent part under the policy; keys is [kv_heads, tokens,
    /// key_dim], values [kv_heads, tokens, value_dim], with any strides; they must not overlap. Post-RoPE
    /// keys are un-rotated, compressed and rotated at their new positions: afterwards entry i, whether
    /// compressed or not, is at position i.
    ///
    /// Returns the new number of entries (the largest, where a codec keeps a different number per head:
    /// then see sizes()); what lies behind it is left in an unspecified state. Throws Error for shapes
    /// that do not fit together or that the policy refuses, without change.
    template <Executor E = SerialExecutor>
    Index compress(KVView<T> keys, KVView<T> values, const InPlaceOptions& options = {}, const E& executor = {}) {
        check({keys.heads, keys.tokens, keys.head_dim}, {values.heads, values.tokens, values.head_dim}, options);
        require(keys.data != nullptr, "data of keys", 0, "must not be null");
        require(values.data != nullptr, "data of values", 0, "must not be null");
        make_lists(keys.heads, options);
        for (detail::DueList<T>& list : lists_) {
            list.keys = keys.head(list.head);
            list.values = values.head(list.head);
        }
        return compress_lists(options, executor, []() noexcept {});
    }

    /// The same of rows that are read and written as a whole, as quantised ones are; keys and values may differ in
    /// kind, and one of them may be a KVView. They are read to scratch as float, 4 * (key_dim + value_dim) + 8 bytes
    /// for each entry of the views, compressed there, and written back; an engine with little memory passes views of a
    /// few heads at a time. Entries that are only moved, values or keys that do not turn, are moved to the last bit.
    template <class K, class V, Executor E = SerialExecutor>
        requires detail::ByRows<K, V>
    Index compress(const K& keys, const V& values, const InPlaceOptions& options = {}, const E& executor = {}) {
        static_assert(std::is_same_v<T, float>,
                      "freqkv: quantised rows are compressed as float: use InPlaceCompressor<float, Policy>");
        if constexpr (std::is_same_v<T, float>) {
            const auto key_rows = detail::as_rows(keys);
            const auto value_rows = detail::as_rows(values);
            check(key_rows.shape(), value_rows.shape(), options);
            key_rows.check("keys");
            value_rows.check("values");
            make_lists(key_rows.shape().heads, options);
            const detail::RowStaging staging(key_rows, value_rows);
            staging.load(std::span<detail::DueList<float>>(lists_), workspace_, executor);
            return compress_lists(options, executor, [&]() noexcept {
                staging.store(std::span<const detail::DueList<float>>(lists_), rope_.has_value(), executor);
            });
        }
    }

    /// Entries of each head after the latest compress() that did not throw.
    std::span<const Index> sizes() const { return sizes_; }

    /// Bytes of scratch held.
    Index scratch_bytes() const { return workspace_.bytes(); }

private:
    void check(const RowsShape& keys, const RowsShape& values, const InPlaceOptions& options) const {
        require(keys.heads >= 1, "heads of keys", keys.heads, "must be at least 1");
        require(keys.head_dim >= 1, "head_dim of keys", keys.head_dim, "must be at least 1");
        require(values.head_dim >= 1, "head_dim of values", values.head_dim, "must be at least 1");
        require(values.heads == keys.heads, "heads of values", values.heads, "must be those of keys");
        require(values.tokens == keys.tokens, "tokens of values", values.tokens, "must be those of keys");
        require(options.sinks >= 0 && options.sinks < keys.tokens, "sinks", options.sinks,
                "must not be negative and must be below the number of tokens");
        require(options.recent >= 0 && options.recent < keys.tokens - options.sinks, "recent", options.recent,
                "must not be negative and must be below the number of tokens less the sinks");
        require(options.compressions >= 0, "compressions", options.compressions, "must not be negative");
        require(!rope_ || rope_->head_dim() == keys.head_dim, "head_dim of keys", keys.head_dim,
                "must be that of the rope");
        const auto positions = static_cast<Index>(options.positions.size());
        require(positions == 0 || positions == keys.tokens, "number of positions", positions,
                "must be 0 or the number of tokens");
    }

    // One for each head, but for its keys and values.
    void make_lists(Index heads, const InPlaceOptions& options) {
        lists_.clear();
        for (Index h = 0; h < heads; ++h) {
            detail::DueList<T> list;
            list.head = h;
            list.positions = options.positions;
            list.compressions = options.compressions;
            lists_.push_back(list);
        }
    }

    template <Executor E, class F>
    Index compress_lists(const InPlaceOptions& options, const E& executor, const F& committed) {
        sizes_.reserve(lists_.size());
        const detail::CompressionSettings<T> settings{.layer = options.layer,
                                                      .sinks = options.sinks,
                                                      .recent = options.recent,
                                                      .rope = rope_ ? &*rope_ : nullptr,
                                                      .observer = options.observer};
        compressor_.compress(std::span<detail::DueList<T>>(lists_), settings, workspace_, executor, [&]() noexcept {
            committed();
            sizes_.clear();
            for (const detail::DueList<T>& list : lists_) sizes_.push_back(list.size_after);
        });
        return *std::max_element(sizes_.begin(), sizes_.end());
    }

    detail::ListCompressor<T, P> compressor_;
    std::optional<Rope<C>> rope_;
    std::vector<detail::DueList<T>> lists_;
    std::vector<Index> sizes_;
    Workspace workspace_;
};

/// InPlaceCompressor::compress() for a single call; plans and scratch are made and dropped.
template <class T, class P = LowPass<>, Executor E = SerialExecutor>
Index compress_in_place(KVView<T> keys, KVView<T> values, std::optional<Rope<Arithmetic<T>>> rope = std::nullopt,
                        const InPlaceOptions& options = {}, P policy = P{}, const E& executor = {}) {
    return InPlaceCompressor<T, P>(std::move(policy), std::move(rope)).compress(keys, values, options, executor);
}
template <class K, class V, class P = LowPass<>, Executor E = SerialExecutor>
    requires detail::ByRows<K, V>
Index compress_in_place(const K& keys, const V& values, std::optional<Rope<float>> rope = std::nullopt,
                        const InPlaceOptions& options = {}, P policy = P{}, const E& executor = {}) {
    return InPlaceCompressor<float, P>(std::move(policy), std::move(rope)).compress(keys, values, options, executor);
}

}  // namespace freqkv::inline FREQKV_ISA
