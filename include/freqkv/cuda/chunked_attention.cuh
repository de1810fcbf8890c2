// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/attention_launch.cuh"
#include "freqkv/cuda/detail/cache/feed.hpp"
#include "freqkv/cuda/detail/device/check_memory.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda {

/// How the tokens of a call attend that follow each other in a sequence.
enum class Chunks {
    /// Many of them together, on tensor cores, where the cache holds 16-bit or packed elements, keys and values have 64
    /// or 128 dimensions, and the program has code for compute capability 8.0 or above (nvcc -arch=sm_80); else each by
    /// itself. Queries and weights are rounded to the cache's type then, with packed elements all to half, so results
    /// differ a little with how a text is cut into calls. A not-a-number among the values of a call may spoil the
    /// results of all tokens of that call, also
    /// of those before it.
    together,
    /// Always each by itself: results do not depend on how a text is cut into calls, to the bit. Slow for long chunks.
    token_by_token,
};

/// Causal attention that drives its cache, for a batch of sequences with any number of tokens each: fill, attend,
/// compress, go on, as freqkv::ChunkedAttention. Results do not depend on the other sequences of a batch, to the bit;
/// what the cache holds depends neither on these nor on how a text is cut into calls, results only as Chunks says.
///
/// A token by itself reads keys and values of its sequence, once for up to 8 query heads of a KV head. Tokens together
/// take 4 * key_dim operations for each query head and entry that a token sees, and memory hardly counts.
///
/// U is the type of q, k, v and the result: float, __half or __nv_bfloat16. One object serves all layers of a model on
/// one stream; not to be used from two threads at once.
template <class U>
class ChunkedAttention {
    static_assert(detail::check_element<U>());

public:
    /// `scale` multiplies scores before the softmax; 0: 1 / sqrt(key_dim). Throws Error unless it is positive
    /// and finite as a float, or 0.
    explicit ChunkedAttention(double scale = 0, Chunks chunks = Chunks::together) : scale_(scale), chunks_(chunks) {
        const auto stored = static_cast<float>(scale_);
        require(std::isfinite(stored) && scale_ >= 0 && (stored > 0 || scale_ == 0), "scale", scale_,
                "must be 0, or positive and finite as a float");
    }

    /// Appends k and v to the sequences of `parts` and attends; the tokens of parts[0] come first. All un-rotated, with
    /// any strides, but dimensions of q and out side by side:
    ///   q   [query_heads, tokens, key_dim]       k [kv_heads, tokens, key_dim]
    ///   out [query_heads, tokens, value_dim]     v [kv_heads, tokens, value_dim]
    /// `out` must not overlap q, k or v. Throws Error for what does not fit, without change; CudaError if a launch or
    /// the scratch fails: the tokens before that boundary are then in the cache.
    template <class T, class P>
    void forward(KVView<const U> q, KVView<const U> k, KVView<const U> v, SinkedKVCache<T, P>& cache, KVView<U> out,
                 std::span<const SequenceTokens> parts, cudaStream_t stream = nullptr) {
        detail::Feed feed(parts, cache.options().sequences, q.tokens);
        if (feed.done()) return;
        check(q, k, v, cache, out);
        while (!feed.done()) {
            const std::vector<detail::FeedPiece> pieces = detail::CacheAccess::next_round(cache, feed, stream);
            detail::CacheAccess::write(cache, q, k, v, std::span<const detail::FeedPiece>(pieces), stream);
            attend(q, cache, out, pieces, stream);
            detail::CacheAccess::advance(cache, pieces, stream);
        }
    }

    /// Loads the kernels and makes room for calls with `tokens` tokens, as forward() does when it meets the first.
    /// Needed before a stream is captured, in which nothing can be allocated.
    template <class T, class P>
    void reserve(const SinkedKVCache<T, P>& cache, Index tokens) {
        check_device(cache.options());
        using Q = Query<T>;
        detail::DecodeTask<Q, T> task = task_of<Q>(cache);
        task.tokens = static_cast<int>(std::clamp<Index>(tokens, 1, most_tokens(task)));
        grow(parts_, task.parts_size());
        detail::load_decode_kernels<Q, T>(detail::decode_heads(task.group, task.key_dim, task.value_dim));
        (void)takes_together(cache);
        if constexpr (is_packed<T>) {
            grow(transformed_, transformed_floats(cache.options(), std::max<Index>(tokens, 1)));
            detail::load_convert_kernel<detail::EntryRows<const U>, detail::PackedEntries<T::bits>>();
            detail::load_convert_kernel<detail::EntryRows<const U>, detail::EntryRows<float>>();
            detail::load_convert_kernel<detail::EntryRows<const float>, detail::EntryRows<U>>();
            detail::load_size_kernel();
        } else {
            detail::load_append_kernels<U, T>();
        }
        detail::load_kernel(&detail::append_queries_kernel<U>);
    }

    /// Bytes of scratch held on the device.
    Index scratch_bytes() const { return (parts_.size() + transformed_.size()) * static_cast<Index>(sizeof(float)); }

private:
    // What kernels of attention get as queries and give as results: of a packed cache they are transformed.
    template <class T>
    using Query = std::conditional_t<is_packed<T>, float, U>;

    // Scratch for the parts of as many tokens as fit it, at least one.
    static constexpr Index most_scratch_floats = Index{1} << 24;

    template <class T, class P>
    static void check(const KVView<const U>& q, const KVView<const U>& k, const KVView<const U>& v,
                      const SinkedKVCache<T, P>& cache, const KVView<U>& out) {
        detail::CacheAccess::check(cache, q, k, v);
        const CacheOptions& options = cache.options();
        const detail::Extent result = detail::checked_device_extent("out", out);
        for (const auto& [name, view] : {std::pair{"q", &q}, std::pair{"k", &k}, std::pair{"v", &v}}) {
            if (detail::overlap(detail::checked_device_extent(name, *view), result)) {
                refuse("overlap", std::string("out with ") + name, "must not be");
            }
        }
        check_device(options);
        require(q.heads == options.query_heads, "heads of q", q.heads, "must be query_heads of the cache");
        require(q.head_dim == options.key_dim, "head_dim of q", q.head_dim, "must be key_dim of the cache");
        require(q.tokens == k.tokens, "tokens of q", q.tokens, "must be the tokens of k");
        require(out.heads == q.heads, "heads of out", out.heads, "must be those of q");
        require(out.tokens == q.tokens, "tokens of out", out.tokens, "must be the tokens of q");
        require(out.head_dim == options.value_dim, "head_dim of out", out.head_dim, "must be value_dim of the cache");
        require(q.dim_stride == 1, "dim_stride of q", q.dim_stride, "must be 1");
        require(out.dim_stride == 1, "dim_stride of out", out.dim_stride, "must be 1");
    }

    static void check_device(const CacheOptions& options) {
        detail::check_decode(options.kv_heads, options.query_heads / options.kv_heads, options.key_dim,
                             options.value_dim);
    }

    // All that does not depend on the call.
    template <class Q, class T, class P>
    detail::DecodeTask<Q, T> task_of(const SinkedKVCache<T, P>& cache) const {
        const CacheOptions& options = cache.options();
        detail::DecodeTask<Q, T> task;
        detail::CacheAccess::set_memory(cache, task);
        // Transformed queries have been rotated before.
        task.key_columns =
            is_packed<T> ? detail::plain_columns(options.key_dim) : detail::CacheAccess::key_columns(cache);
        task.frequencies = task.key_columns.pairs > 0 ? cache.rope()->frequencies() : nullptr;
        task.kv_heads = static_cast<int>(options.kv_heads);
        task.group = static_cast<int>(options.query_heads / options.kv_heads);
        task.capacity = static_cast<int>(options.capacity);
        task.key_dim = static_cast<int>(options.key_dim);
        task.value_dim = static_cast<int>(options.value_dim);
        task.scale = static_cast<float>(scale_ > 0 ? scale_ : 1 / std::sqrt(static_cast<double>(options.key_dim)));
        task.wide = options.key_dim % 8 == 0 && options.value_dim % 4 == 0;
        task.tokens = 1;
        return task;
    }

    // Whether tokens of this cache may attend together. Loads the kernel that they need then.
    template <class T, class P>
    bool takes_together(const SinkedKVCache<T, P>& cache) const {
        const CacheOptions& options = cache.options();
        if constexpr (detail::takes_tensor_cores<T>) {
            return chunks_ == Chunks::together && detail::has_prefill(options.key_dim, options.value_dim) &&
                   detail::prefill_is_compiled<Query<T>, T>(options.key_dim);
        }
        return false;
    }

    // Of one launch.
    template <class Q, class T>
    static Index most_tokens(detail::DecodeTask<Q, T> task) {
        task.tokens = 1;
        return std::clamp<Index>(most_scratch_floats / task.parts_size(), 1, detail::TokenPlaces::most_tasks);
    }

    // What has been outgrown is kept, for a graph may still use it.
    void grow(DeviceArray<float>& array, Index floats) {
        if (floats <= array.size()) return;
        DeviceArray<float> larger(std::max(floats, 2 * array.size()));
        outgrown_.push_back(std::move(array));
        array = std::move(larger);
    }

    template <class T, class P>
    void attend(const KVView<const U>& q, const SinkedKVCache<T, P>& cache, const KVView<U>& out,
                const std::vector<detail::FeedPiece>& pieces, cudaStream_t stream) {
        if constexpr (is_packed<T>) {
            attend_transformed(q, cache, out, pieces, stream);
        } else {
            attend_as_they_are(q, cache, out, pieces, stream);
        }
    }

    // Transformed queries and results of `tokens` tokens.
    static Index transformed_floats(const CacheOptions& options, Index tokens) {
        return checked_product("transformed queries", options.query_heads, options.key_dim + options.value_dim, tokens);
    }

    // Rows of a packed cache are transformed: each query is once, and what it finds is transformed back.
    template <class T, class P>
    void attend_transformed(const KVView<const U>& q, const SinkedKVCache<T, P>& cache, const KVView<U>& out,
                            const std::vector<detail::FeedPiece>& pieces, cudaStream_t stream) {
        const CacheOptions& options = cache.options();
        const detail::Columns columns = detail::CacheAccess::key_columns(cache);
        const Index heads = options.query_heads;
        std::vector<detail::FeedPiece> close;  // of the pieces, side by side
        Index tokens = 0;
        for (const detail::FeedPiece& piece : pieces) {
            close.push_back({piece.sequence, tokens, piece.count});
            tokens += piece.count;
        }
        grow(transformed_, transformed_floats(options, tokens));
        const auto queries = KVView<float>::token_major(transformed_.data(), heads, tokens, options.key_dim);
        const auto results = KVView<float>::token_major(transformed_.data() + tokens * heads * options.key_dim, heads,
                                                        tokens, options.value_dim);
        using detail::EntryRows;
        std::vector<detail::ConvertTask<EntryRows<const U>, EntryRows<float>>> forth;
        std::vector<detail::ConvertTask<EntryRows<const float>, EntryRows<U>>> back;
        const detail::Columns of_values = detail::plain_columns(options.value_dim);
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            const detail::FeedPiece& piece = pieces[i];
            forth.push_back(detail::convert_task(detail::rows_of(q, columns, piece.first),
                                                 detail::rows_of(queries, columns, close[i].first), heads,
                                                 piece.count));
            forth.back().size = cache.device_sizes() + piece.sequence;
            if (columns.pairs > 0) forth.back().frequencies = cache.rope()->frequencies();
            back.push_back(detail::convert_task(detail::read_only(detail::rows_of(results, of_values, close[i].first)),
                                                detail::rows_of(out, of_values, piece.first), heads, piece.count));
        }
        detail::launch_convert<EntryRows<const U>, EntryRows<float>>(forth, stream);
        const KVView<const float> read_queries(queries.data, heads, tokens, options.key_dim, queries.head_stride,
                                               queries.token_stride, 1);
        attend_as_they_are(read_queries, cache, results, std::move(close), stream);
        detail::launch_convert<EntryRows<const float>, EntryRows<U>>(back, stream);
    }

    template <class Q, class T, class P>
    void attend_as_they_are(const KVView<const Q>& q, const SinkedKVCache<T, P>& cache, const KVView<Q>& out,
                            std::vector<detail::FeedPiece> pieces, cudaStream_t stream) {
        detail::DecodeTask<Q, T> task = task_of<Q>(cache);
        task.query_token_stride = q.token_stride;
        task.query_head_stride = q.head_stride;
        task.result_token_stride = out.token_stride;
        task.result_head_stride = out.head_stride;
        task.queries = q.data;
        task.results = out.data;
        if constexpr (detail::takes_tensor_cores<T>) {
            const auto rest = std::stable_partition(pieces.begin(), pieces.end(), [&](const auto& piece) {
                return detail::is_prefill(piece.count, task.group);
            });
            if (rest != pieces.begin() && takes_together(cache)) {
                detail::launch_prefill<Q, T>(task, {pieces.begin(), rest}, stream);
                pieces.erase(pieces.begin(), rest);
            }
        }
        attend_one_by_one(task, pieces, stream);
    }

    template <class Q, class T>
    void attend_one_by_one(detail::DecodeTask<Q, T>& task, std::span<const detail::FeedPiece> pieces,
                           cudaStream_t stream) {
        const Q* const queries = task.queries;
        Q* const results = task.results;
        const Index most = most_tokens(task);
        // Tokens of a launch lie side by side in q and out.
        std::size_t at = 0;
        Index in_piece = 0;
        while (at < pieces.size()) {
            const auto places = std::make_unique<detail::TokenPlaces>();
            const Index first = pieces[at].first + in_piece;
            Index count = 0;
            while (at < pieces.size() && count < most && pieces[at].first + in_piece == first + count) {
                places->tasks[count++] = {static_cast<std::int32_t>(pieces[at].sequence),
                                          static_cast<std::int32_t>(in_piece)};
                if (++in_piece == pieces[at].count) {
                    ++at;
                    in_piece = 0;
                }
            }
            task.tokens = static_cast<int>(count);
            grow(parts_, task.parts_size());
            task.parts = parts_.data();
            task.queries = queries + first * task.query_token_stride;
            task.results = results + first * task.result_token_stride;
            detail::launch_decode(task, *places, stream);
        }
    }

    double scale_;
    Chunks chunks_;
    DeviceArray<float> parts_;
    DeviceArray<float> transformed_;  // queries and results of a packed cache
    std::vector<DeviceArray<float>> outgrown_;
};

}  // namespace freqkv::cuda
