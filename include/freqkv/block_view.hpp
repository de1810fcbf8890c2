// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstring>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/check_rows.hpp"
#include "freqkv/detail/lanes/ggml_rows.hpp"
#include "freqkv/foreign_rows.hpp"
#include "freqkv/ggml.hpp"

namespace freqkv::inline FREQKV_ISA {

/// Non-owning view of the keys or values of one layer, [heads, tokens, head_dim], of which each row is head_dim / 32
/// blocks one behind the other: a llama.cpp tensor of type Q8_0 or Q4_0 (with flash attention, without which its values
/// are not quantised). Strides are in blocks and may have any value. Elements are finite.
///
///     auto keys = BlockView<ggml::Q8_0>::token_major(static_cast<ggml::Q8_0*>(k->data), kv_heads, length, head_dim);
template <ggml::Block B>
struct BlockView {
    B* data = nullptr;
    Index heads = 0;
    Index tokens = 0;
    Index head_dim = 0;  ///< in elements, a multiple of 32
    Index head_stride = 0;
    Index token_stride = 0;

    BlockView() = default;
    constexpr BlockView(B* data_, Index heads_, Index tokens_, Index head_dim_, Index head_stride_, Index token_stride_)
        : data(data_),
          heads(heads_),
          tokens(tokens_),
          head_dim(head_dim_),
          head_stride(head_stride_),
          token_stride(token_stride_) {}

    /// Dense [tokens, heads, head_dim].
    static constexpr BlockView token_major(B* data, Index heads, Index tokens, Index head_dim) {
        const Index blocks = head_dim / B::elements;
        return {data, heads, tokens, head_dim, blocks, heads * blocks};
    }

    /// The blocks of a row.
    constexpr B* row(Index head, Index token) const { return data + head * head_stride + token * token_stride; }

    // As ForeignRows has them.
    constexpr RowsShape shape() const { return {heads, tokens, head_dim}; }
    void check(const char* name) const {
        detail::require_of(data != nullptr, "data", name, 0, "must not be null");
        detail::require_of(head_dim % B::elements == 0, "head_dim", name, head_dim,
                           "must be a multiple of the 32 elements of a block");
    }
    void load(Index head, Index token, float* to) const noexcept {
        detail::unpack_row(static_cast<const B*>(row(head, token)), head_dim, to);
    }
    void store(Index head, Index token, const float* from) const noexcept {
        detail::pack_row(from, head_dim, row(head, token));
    }
    void move(Index head, Index from, Index to) const noexcept {
        std::memmove(row(head, to), row(head, from), static_cast<std::size_t>(head_dim / B::elements) * sizeof(B));
    }
};

}  // namespace freqkv::inline FREQKV_ISA
