// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/packed_group.hpp"
#include "freqkv/cuda/detail/device/packed_memory.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"

// All that becomes of rows around a packed cache is one step: they are read, rotated, transformed as a whole, and
// written in another form. So tokens come in, queries are transformed and results back, entries are packed, and a
// compression gets floats.
namespace freqkv::cuda::detail {

/// Rows of one head of a packed cache, from entry `first` on.
template <int Bits>
struct PackedEntriesOfHead {
    PackedHead<Bits> entries;
    int first = 0;
};

/// The same of all heads of a list.
template <int Bits>
struct PackedEntries {
    PackedMemory<Bits> memory;
    Index first_head = 0;                  ///< of the list among all
    const std::int32_t* packed = nullptr;  ///< entries of it that are packed
    int first = 0;

    FREQKV_INLINE PackedEntriesOfHead<Bits> of_head(int head) const {
        return {memory.of(first_head + head, *packed), first};
    }
};

/// Rows of one list; In and Out are EntryRows or PackedEntries.
template <class In, class Out>
struct ConvertTask {
    In in;
    Out out;
    int heads = 0;
    int count = 0;
    float factor = 0;                            ///< hadamard_factor(dim); 0: not transformed
    const std::int32_t* size = nullptr;          ///< the first row is rotated at this position; null: 0
    bool appends = false;                        ///< and goes to this entry of `out`
    const std::uint64_t* frequencies = nullptr;  ///< null: not rotated
    Columns columns;                             ///< of the rows, in which RoPE pairs them

    FREQKV_HOST_DEVICE int dim() const { return columns.dims; }
};

/// Of rows whose dimensions do not turn.
inline Columns plain_columns(Index dim) { return {static_cast<int>(dim), 0, false}; }

/// The size of the blocks of a row that are transformed: the largest power of two that divides it.
FREQKV_HOST_DEVICE inline int hadamard_block(int dim) { return dim & -dim; }

/// What makes the transform orthogonal. As the host computes it.
inline float hadamard_factor(int dim) {
    return static_cast<float>(1 / std::sqrt(static_cast<double>(hadamard_block(dim))));
}

/// A task that transforms `count` rows.
template <class In, class Out>
ConvertTask<In, Out> convert_task(const In& in, const Out& out, Index heads, Index count) {
    ConvertTask<In, Out> task;
    task.in = in;
    task.out = out;
    task.heads = static_cast<int>(heads);
    task.count = static_cast<int>(count);
    if constexpr (requires { in.columns; }) {
        task.columns = in.columns;
    } else {
        task.columns = out.columns;
    }
    task.factor = hadamard_factor(task.columns.dims);
    return task;
}

/// Where rows lie in shared memory. There is a gap behind each group, so that threads that read groups side by side
/// begin at different banks.
struct RowBuffer {
    int dim = 0;

    FREQKV_HOST_DEVICE int row_floats() const { return dim + (dim + gap - 1) / gap; }
    FREQKV_INLINE int index(int row, int d) const { return row * row_floats() + d + d / gap; }

private:
    static constexpr int gap = 32;
};

/// The Walsh-Hadamard transform of `count` rows, as freqkv::detail::hadamard().
template <ThreadBlock Block, SharedFloats Memory>
FREQKV_INLINE void hadamard_rows(const RowBuffer& rows, int count, float factor, Block block, Memory memory) {
    const int size = hadamard_block(rows.dim);
    const int pairs = rows.dim / 2;
    for (int half = 1; half < size; half *= 2) {
        const float by = 2 * half == size ? factor : 1;
        block.each(count * pairs, [&](int i) {
            const int pair = i % pairs;
            const int d = pair / half * (2 * half) + pair % half;
            const int a = rows.index(i / pairs, d);
            const int b = rows.index(i / pairs, d + half);
            const float x = memory.load(a);
            const float y = memory.load(b);
            memory.store(a, (x + y) * by);
            memory.store(b, (x - y) * by);
        });
    }
}

template <class T>
FREQKV_INLINE float load_element(const EntryRows<const T>& rows, int row, int d) {
    return to_float(rows.row(row)[d * rows.dim_stride]);
}
template <int Bits>
FREQKV_INLINE float load_element(const PackedEntriesOfHead<Bits>& in, int row, int d) {
    return in.entries.row(in.first + row).template load<1>(d).values[0];
}

/// Rows [first, first + count) of the buffer to `out`, whose row 0 is behind `before` others.
template <class T, ThreadBlock Block, SharedFloats Memory>
FREQKV_INLINE void store_rows(const EntryRows<T>& out, int /*before*/, int first, int count, const RowBuffer& rows,
                              Block block, Memory memory) {
    block.each(count * rows.dim, [&](int i) {
        const int row = i / rows.dim;
        const int d = i % rows.dim;
        out.row(first + row)[d * out.dim_stride] = from_float<T>(memory.load(rows.index(row, d)));
    });
}

/// A thread has a group. Rows that there is no memory for are dropped: a graph that is launched once too often harms
/// nothing else.
template <int Bits, ThreadBlock Block, SharedFloats Memory>
FREQKV_INLINE void store_rows(const PackedEntriesOfHead<Bits>& out, int before, int first, int count,
                              const RowBuffer& rows, Block block, Memory memory) {
    constexpr int elements = PackedGroup<Bits>::elements;
    const int groups = (rows.dim + elements - 1) / elements;
    block.each(count * groups, [&](int i) {
        const int row = i / groups;
        const int group = i % groups;
        const int entry = out.first + before + first + row;
        if (!out.entries.holds(entry)) return;
        const int left = rows.dim - group * elements;
        float x[elements];
        freqkv::detail::unrolled<elements>([&](auto j) FREQKV_INLINE_LAMBDA {
            const int d = static_cast<int>(j);
            x[d] = d < left ? memory.load(rows.index(row, group * elements + d)) : 0.0F;
        });
        out.entries.row(entry).store(group, x, left < elements ? left : elements);
    });
}

/// Rows [first, first + count) of the task for one head, by one block. `memory` has room for as many rows of a
/// RowBuffer.
template <class In, class Out, ThreadBlock Block, SharedFloats Memory>
FREQKV_INLINE void convert_rows(const ConvertTask<In, Out>& task, int head, int first, int count, Block block,
                                Memory memory) {
    const RowBuffer rows{task.dim()};
    const auto in = task.in.of_head(head);
    const int size = task.size == nullptr ? 0 : *task.size;
    const Columns& columns = task.columns;
    const int columns_of_row = columns.count();
    block.each(count * columns_of_row, [&](int i) {
        const int row = i / columns_of_row;
        const int column = i % columns_of_row;
        const int a = columns.first(column);
        const int b = columns.second(column);
        Complex<float> x{load_element(in, first + row, a), b < task.dim() ? load_element(in, first + row, b) : 0.0F};
        if (task.frequencies != nullptr && column < columns.pairs) {
            const Complex<float> angle = rope_angle(Index{size} + first + row, task.frequencies[column]);
            x = x.turned(angle.re, angle.im);
        }
        memory.store(rows.index(row, a), x.re);
        if (b < task.dim()) memory.store(rows.index(row, b), x.im);
    });
    if (task.factor != 0) hadamard_rows(rows, count, task.factor, block, memory);
    store_rows(task.out.of_head(head), task.appends ? size : 0, first, count, rows, block, memory);
}

}  // namespace freqkv::cuda::detail
