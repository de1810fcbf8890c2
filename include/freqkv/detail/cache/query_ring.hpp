// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The latest `window` queries of a layer, un-rotated, for codecs that read them. Indexed by token, so
// that taking tokens back needs no change here: the next compression of a head comes at the same count c
// of tokens as before, and it reads the queries of tokens from c - window on; no token before c that is
// fed again or for the first time overwrites one of those that stay.
template <class C>
class QueryRing {
public:
    QueryRing(Index window, Index kv_heads, Index group, Index dim)
        : window_(window),
          group_(group),
          dim_(dim),
          data_(checked_product("query window size", window, kv_heads, group, dim)) {}

    Index bytes() const { return data_.bytes(); }

    // The queries of tokens [first, first + count) of q, which are tokens `token`, … of the text, of the
    // group of one KV head.
    template <class Q>
    void write(Index kv_head, KVView<const Q> q, Index first, Index count, Index token) {
        for (Index t = std::max<Index>(0, count - window_); t < count; ++t) {
            for (Index g = 0; g < group_; ++g) {
                const MatrixView<const Q> rows = q.head(kv_head * group_ + g);
                C* const to = of(kv_head) + ((token + t) % window_ * group_ + g) * dim_;
                for (Index d = 0; d < dim_; ++d) to[d] = static_cast<C>(rows(first + t, d));
            }
        }
    }

    // What a codec may read when `tokens` tokens have been seen.
    QueryWindow<C> window(Index kv_head, Index tokens) const { return {of(kv_head), window_, group_, dim_, tokens}; }

    // f(data, number of elements) of what is in use when `tokens` tokens have been seen.
    template <class F>
    void for_each_part(Index tokens, const F& f) const {
        if (window_ == 0) return;
        const Index row = group_ * dim_;
        for (Index h = 0; h < data_.size() / (window_ * row); ++h) f(of(h), std::min(tokens, window_) * row);
    }

private:
    C* of(Index kv_head) const { return data_.data() + kv_head * window_ * group_ * dim_; }

    Index window_;
    Index group_;
    Index dim_;
    AlignedBuffer<C> data_;  // [kv_heads, window, group, dim]
};

}  // namespace freqkv::detail::inline FREQKV_ISA
