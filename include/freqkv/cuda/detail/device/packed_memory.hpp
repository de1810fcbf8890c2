// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/half_element.hpp"
#include "freqkv/cuda/detail/device/packed_group.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"

// Where the keys, or the values, of a packed cache lie on a device. The first entries and the latest are in 16 bits,
// those between are packed: the rows of freqkv::PackedView, all transformed. A group's codes and its scale are in
// arrays of their own, so that codes are aligned: a thread reads eight at a time.
namespace freqkv::cuda::detail {

/// One row: exact, or where that is null packed.
template <int Bits>
struct PackedRow {
    Half* exact = nullptr;          ///< [dim]
    std::uint8_t* codes = nullptr;  ///< [groups * PackedGroup::bytes]
    Half* scales = nullptr;         ///< [groups]

    /// Elements [d, d + N), d a multiple of N <= 8.
    template <int N>
    FREQKV_INLINE Elements<float, N> load(int d) const {
        if (exact == nullptr) return unpack_elements<Bits, N>(codes, scales, d);
        const auto some = load_elements<N>(exact + d);
        Elements<float, N> elements;
        freqkv::detail::unrolled<N>([&](auto j)
                                        FREQKV_INLINE_LAMBDA { elements.values[j] = to_float(some.values[j]); });
        return elements;
    }

    /// Group `group`, of which `count` numbers mean something and the others are 0.
    FREQKV_INLINE void store(int group, const float (&x)[PackedGroup<Bits>::elements], int count) const {
        using Group = PackedGroup<Bits>;
        if (exact == nullptr) return pack_group<Bits>(x, count, codes + group * Group::bytes, scales[group]);
        freqkv::detail::unrolled<Group::elements>([&](auto i) FREQKV_INLINE_LAMBDA {
            if (i < count) exact[group * Group::elements + i] = from_float<Half>(x[i]);
        });
    }
};

/// The rows of one head of one list.
template <int Bits>
struct PackedHead {
    Half* first = nullptr;          ///< [first_rows, dim]
    std::uint8_t* codes = nullptr;  ///< [packed_rows, groups * PackedGroup::bytes]
    Half* scales = nullptr;         ///< [packed_rows, groups]
    Half* latest = nullptr;         ///< [latest_rows, dim]
    int first_rows = 0;
    int packed_rows = 0;  ///< rows behind the first ones that are packed; the latest are behind them
    int latest_rows = 0;
    int dim = 0;

    /// Whether there is memory for entry `e`.
    FREQKV_INLINE bool holds(int e) const { return e - first_rows - packed_rows < latest_rows; }

    /// Entry `e`; of one that there is no memory for, the last one.
    FREQKV_INLINE PackedRow<Bits> row(int e) const {
        if (e < first_rows) return {first + Index{e} * dim, nullptr, nullptr};
        const int packed = e - first_rows;
        if (packed < packed_rows) {
            const Index group = Index{packed} * row_length<Packed<Bits>>(dim);
            return {nullptr, codes + group * PackedGroup<Bits>::bytes, scales + group};
        }
        const int exact = holds(e) ? packed - packed_rows : latest_rows - 1;
        return {latest + Index{exact} * dim, nullptr, nullptr};
    }
};

/// The rows of all lists, one head behind another.
template <int Bits>
struct PackedMemory {
    Half* first = nullptr;          ///< [lists * kv_heads, first_rows, dim]
    std::uint8_t* codes = nullptr;  ///< [lists * kv_heads, packed_rows, groups * PackedGroup::bytes]
    Half* scales = nullptr;         ///< [lists * kv_heads, packed_rows, groups]
    Half* latest = nullptr;         ///< [lists * kv_heads, latest_rows, dim]
    int first_rows = 0;
    int packed_rows = 0;
    int latest_rows = 0;
    int dim = 0;

    /// Head `head`, counted through all lists, of whose rows `packed` are packed.
    FREQKV_INLINE PackedHead<Bits> of(Index head, int packed) const {
        const Index group = head * packed_rows * row_length<Packed<Bits>>(dim);
        return {first + head * first_rows * dim,
                codes + group * PackedGroup<Bits>::bytes,
                scales + group,
                latest + head * latest_rows * dim,
                first_rows,
                packed,
                latest_rows,
                dim};
    }
};

}  // namespace freqkv::cuda::detail
