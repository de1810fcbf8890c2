// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/check_rows.hpp"
#include "freqkv/detail/lanes/hadamard.hpp"
#include "freqkv/foreign_rows.hpp"

namespace freqkv::inline FREQKV_ISA {

/// Rows of which each block of `block` elements is stored as its Walsh-Hadamard transform: element i as the sum over j
/// of (-1)^(ones of i & j) / sqrt(block) times element j. It is orthogonal and its own inverse. Keys are transformed
/// behind their rotation, so this is undone first. A view of rows as they were before.
///
/// llama.cpp stores quantised caches so: see ggml::key_hadamard() and ggml::value_hadamard(), whose 1 is no transform.
template <ForeignRows R>
struct HadamardView {
    R rows;
    Index block = 1;  ///< a power of two that divides head_dim

    HadamardView() = default;
    HadamardView(R rows_, Index block_) : rows(std::move(rows_)), block(block_) {}

    // As ForeignRows has them.
    RowsShape shape() const { return rows.shape(); }
    void check(const char* name) const {
        rows.check(name);
        detail::require_of(block >= 1 && (block & (block - 1)) == 0 && shape().head_dim % block == 0, "Hadamard block",
                           name, block, "must be a power of two that divides head_dim");
    }
    void load(Index head, Index token, float* to) const noexcept {
        rows.load(head, token, to);
        transform(to);
    }
    void store(Index head, Index token, float* from) const noexcept {
        transform(from);
        rows.store(head, token, from);
    }
    void move(Index head, Index from, Index to) const noexcept { rows.move(head, from, to); }

private:
    void transform(float* row) const noexcept {
        const Index count = shape().head_dim;
        for (Index begin = 0; begin < count; begin += block) detail::hadamard(row + begin, block);
    }
};

}  // namespace freqkv::inline FREQKV_ISA
