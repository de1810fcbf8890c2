// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "freqkv/config.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/view.hpp"

namespace freqkv::test {

/// To the last bit; `what` and the first entry and dimension that differ are named.
template <class T>
void expect_same_rows(const MatrixView<const T>& a, const MatrixView<const T>& b, const std::string& what) {
    ASSERT_EQ(a.rows, b.rows) << what;
    ASSERT_EQ(a.columns, b.columns) << what;
    for (Index r = 0; r < a.rows; ++r) {
        for (Index c = 0; c < a.columns; ++c) {
            const T x = a(r, c), y = b(r, c);
            ASSERT_EQ(std::memcmp(&x, &y, sizeof(T)), 0)
                << what << ", entry " << r << ", dimension " << c << ": "
                << static_cast<double>(static_cast<Arithmetic<T>>(x)) << " and "
                << static_cast<double>(static_cast<Arithmetic<T>>(y));
        }
    }
}

/// The same of a packed type.
template <class T>
void expect_same_rows(const PackedView<const T>& a, const PackedView<const T>& b, const std::string& what) {
    ASSERT_NO_FATAL_FAILURE(expect_same_rows(a.first, b.first, what + " among the first"));
    ASSERT_NO_FATAL_FAILURE(expect_same_rows(a.latest, b.latest, what + " among the latest"));
    ASSERT_EQ(a.packed.rows, b.packed.rows) << what;
    const auto row_bytes = static_cast<std::size_t>(a.packed.row_stride) * sizeof(T);
    for (Index r = 0; r < a.packed.rows; ++r) {
        ASSERT_EQ(std::memcmp(a.packed.row(r), b.packed.row(r), row_bytes), 0) << what << ", packed entry " << r;
    }
}

/// Sizes, numbers of compressions and what every entry stands for and holds, to the last bit.
template <class Cache>
void expect_identical(const Cache& a, const Cache& b) {
    ASSERT_EQ(a.tokens_seen(), b.tokens_seen());
    for (Index h = 0; h < b.kv_heads(); ++h) {
        const std::string head = " of head " + std::to_string(h);
        ASSERT_EQ(a.size(h), b.size(h)) << "entries" << head;
        ASSERT_EQ(a.compressions(h), b.compressions(h)) << "compressions" << head;
        ASSERT_NO_FATAL_FAILURE(expect_same_rows(a.keys(h), b.keys(h), "key" + head));
        ASSERT_NO_FATAL_FAILURE(expect_same_rows(a.values(h), b.values(h), "value" + head));
        for (Index i = 0; i < b.size(h); ++i) {
            ASSERT_EQ(a.entry_tokens(h, i), b.entry_tokens(h, i)) << "tokens of entry " << i << head;
        }
    }
}

}  // namespace freqkv::test
