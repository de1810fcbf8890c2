// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/list_compressor.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
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
/// engine casts pointers to 16-bit integers). Not to be used from two threads
/// at once.
template <class T, class P = LowPass<>>
class InPlaceCompressor {
    static_assert(detail::check_stored<T>());
    static_assert(!is_packed<T>, "freqkv: packed rows are compressed in a SinkedKVCache only");
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
        check(keys, values, options);
        lists_.clear();
        for (Index h = 0; h < keys.heads; ++h) {
            detail::DueList<T> list;
            list.head = h;
            list.keys = keys.head(h);
            list.values = values.head(h);
            list.positions = options.positions;
            list.compressions = options.compressions;
            lists_.push_back(list);
        }
        sizes_.reserve(lists_.size());
        const detail::CompressionSettings<T> settings{.layer = options.layer,
                                                      .sinks = options.sinks,
                                                      .recent = options.recent,
                                                      .rope = rope_ ? &*rope_ : nullptr,
                                                      .observer = options.observer};
        compressor_.compress(std::span<detail::DueList<T>>(lists_), settings, workspace_, executor, [&]() noexcept {
            sizes_.clear();
            for (const detail::DueList<T>& list : lists_) sizes_.push_back(list.size_after);
        });
        return *std::max_element(sizes_.begin(), sizes_.end());
    }

    /// Entries of each head after the latest compress() that did not throw.
    std::span<const Index> sizes() const { return sizes_; }

    /// Bytes of scratch held.
    Index scratch_bytes() const { return workspace_.bytes(); }

private:
    void check(const KVView<T>& keys, const KVView<T>& values, const InPlaceOptions& options) const {
        require(keys.heads >= 1, "heads of keys", keys.heads, "must be at least 1");
        require(keys.head_dim >= 1, "head_dim of keys", keys.head_dim, "must be at least 1");
        require(values.head_dim >= 1, "head_dim of values", values.head_dim, "must be at least 1");
        require(keys.data != nullptr, "data of keys", 0, "must not be null");
        require(values.data != nullptr, "data of values", 0, "must not be null");
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

}  // namespace freqkv::inline FREQKV_ISA
