// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/check_rows.hpp"
#include "freqkv/foreign_rows.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

namespace freqkv::inline FREQKV_ISA {

/// Non-owning view of the keys or values of one layer in 8 bits, with a scale for each row of a head, which is held
/// apart from it: element (h, t, d) is levels(h, t, d) * scales(t, h). S is float or a 16-bit type, as the element type
/// of InPlaceCompressor. Elements are finite.
///
/// A row is written with scale = m / 127 as S has it, of which m is the largest magnitude, and levels of -127 to 127
/// rounded to nearest; -128 is read, too.
template <class S>
struct ScaledView {
    static_assert(detail::check_stored<S>());

    KVView<std::int8_t> levels;  ///< [heads, tokens, head_dim], any strides
    MatrixView<S> scales;        ///< [tokens, heads], any strides

    // As ForeignRows has them.
    RowsShape shape() const { return {levels.heads, levels.tokens, levels.head_dim}; }
    void check(const char* name) const {
        detail::require_of(levels.data != nullptr, "data", name, 0, "must not be null");
        detail::require_of(scales.data != nullptr, "data of scales", name, 0, "must not be null");
        detail::require_of(scales.rows == levels.tokens, "rows of scales", name, scales.rows, "must be the tokens");
        detail::require_of(scales.columns == levels.heads, "columns of scales", name, scales.columns,
                           "must be the heads");
    }
    void load(Index head, Index token, float* to) const noexcept {
        const MatrixView<std::int8_t> rows = levels.head(head);
        const float scale = scale_of(head, token);
        for (Index d = 0; d < rows.columns; ++d) to[d] = scale * static_cast<float>(rows(token, d));
    }
    void store(Index head, Index token, const float* from) const noexcept {
        const MatrixView<std::int8_t> rows = levels.head(head);
        float largest = 0;
        for (Index d = 0; d < rows.columns; ++d) largest = std::max(largest, std::abs(from[d]));
        scales(token, head) = StoredElement<S>::from_arithmetic(largest / 127);
        const float scale = scale_of(head, token);
        for (Index d = 0; d < rows.columns; ++d) {
            const float level = scale > 0 ? from[d] / scale : 0;
            const float bounded = std::max(-127.0F, std::min(127.0F, level));  // NaN too
            rows(token, d) = static_cast<std::int8_t>(bounded + (bounded < 0 ? -0.5F : 0.5F));
        }
    }
    void move(Index head, Index from, Index to) const noexcept {
        const MatrixView<std::int8_t> rows = levels.head(head);
        for (Index d = 0; d < rows.columns; ++d) rows(to, d) = rows(from, d);
        scales(to, head) = scales(from, head);
    }

private:
    float scale_of(Index head, Index token) const {
        return static_cast<float>(StoredElement<S>::to_arithmetic(scales(token, head)));
    }
};

}  // namespace freqkv::inline FREQKV_ISA
