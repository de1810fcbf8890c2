// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <type_traits>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

// Rows of a cache in device memory as a kernel reads and writes them: strided or in pages, elements of 16 or 32 bits,
// two dimensions to a complex column, which turn together where the cache holds rotated keys.
namespace freqkv::cuda::detail {

/// How the dimensions of a row make complex columns: the columns below `pairs` are the pairs that RoPE turns,
/// (2c, 2c + 1) or (c, c + pairs); the others are (2c, 2c + 1). An odd last dimension has no partner.
struct Columns {
    int dims = 0;
    int pairs = 0;
    bool half_split = false;

    FREQKV_INLINE int count() const { return (dims + 1) / 2; }
    FREQKV_INLINE bool is_split(int column) const { return half_split && column < pairs; }
    FREQKV_INLINE int first(int column) const { return is_split(column) ? column : 2 * column; }
    FREQKV_INLINE int second(int column) const { return is_split(column) ? column + pairs : 2 * column + 1; }
};

/// The cosine and sine of position * theta. `frequency` is theta in turns, modulo 1, as a fraction of 2^64: the product
/// with a position is exact modulo a turn, however far the position, and needs no double precision.
FREQKV_INLINE Complex<float> rope_angle(Index position, std::uint64_t frequency) {
    const auto turns = static_cast<std::int32_t>((static_cast<std::uint64_t>(position) * frequency) >> 32);
    const float half_turns = static_cast<float>(turns) * 0x1p-31F;
    Complex<float> angle;
#if defined(__CUDA_ARCH__)
    sincospif(half_turns, &angle.im, &angle.re);
#else
    const double radians = std::numbers::pi * static_cast<double>(half_turns);
    angle = {static_cast<float>(std::cos(radians)), static_cast<float>(std::sin(radians))};
#endif
    return angle;
}

/// theta in radians for each position as rope_angle() takes it.
inline std::vector<std::uint64_t> rope_frequencies_in_turns(const std::vector<double>& frequencies) {
    std::vector<std::uint64_t> turns;
    for (const double frequency : frequencies) {
        // What is left behind whole turns needs no more bits than the 53 that a double has.
        const long double part =
            std::fmod(static_cast<long double>(frequency) / (2 * std::numbers::pi_v<long double>), 1.0L);
        turns.push_back(static_cast<std::uint64_t>(std::ldexp(part, 64)));
    }
    return turns;
}

/// At which positions the rows are rotated; without frequencies they are not.
struct Positions {
    const std::uint64_t* frequencies = nullptr;  ///< [pairs]
    const Index* table = nullptr;                ///< position of row r; null: first + r
    Index first = 0;

    FREQKV_INLINE Index of(int row) const { return table != nullptr ? table[row] : first + row; }
};

template <class T>
FREQKV_INLINE float to_float(const T& value) {
    return StoredElement<T>::to_arithmetic(value);
}
template <class T>
FREQKV_INLINE T from_float(float value) {
    return StoredElement<T>::from_arithmetic(value);
}

/// Two elements of 16 bits in a word, the first one in its lower half; device_elements.cuh has it for CUDA's own types.
template <class T>
FREQKV_INLINE std::uint32_t packed(float first, float second) {
    static_assert(sizeof(T) == 2);
    const T elements[2] = {from_float<T>(first), from_float<T>(second)};
    return std::bit_cast<std::uint32_t>(elements);
}

/// The N elements from `at` on, which is aligned for it.
template <int N, class T>
FREQKV_INLINE Elements<T, N> load_elements(const T* at) {
    return *reinterpret_cast<const Elements<T, N>*>(at);
}

template <int N, class T>
FREQKV_INLINE void store_elements(T* at, const Elements<T, N>& elements) {
    *reinterpret_cast<Elements<T, N>*>(at) = elements;
}

/// How a kernel reads and writes rows: packs of columns at once, which are split pairs or neighbours, in pages or not;
/// or element by element, whatever the rows are.
template <bool Wide, bool Split, bool Paged>
struct RowAccess {
    static constexpr bool wide = Wide;
    static constexpr bool split = Split;
    static constexpr bool paged = Paged;
};

/// Rows of one or more heads. T is const for rows that are only read.
template <class T>
struct EntryRows {
    using Element = std::remove_const_t<T>;

    T* data = nullptr;
    const std::int32_t* pages = nullptr;  ///< the block table; null: rows are token_stride apart throughout
    Index head_stride = 0;
    Index page_stride = 0;
    Index token_stride = 0;
    Index dim_stride = 1;
    int page_shift = 0;  ///< 2^page_shift rows to a page
    int first = 0;       ///< row 0 is this entry of the list
    Columns columns;
    bool wide = false;  ///< packs of columns may be read and written at once

    /// The same rows of head `head` alone, which the functions below are for. A kernel keeps it in registers.
    FREQKV_INLINE EntryRows of_head(int head) const {
        EntryRows rows = *this;
        rows.data += head * head_stride;
        return rows;
    }

    template <bool Paged>
    FREQKV_INLINE T* row(int r) const {
        const auto entry = static_cast<std::uint32_t>(first + r);  // unsigned: cheaper to multiply in 64 bits
        if constexpr (!Paged) return data + Index{entry} * token_stride;
        const std::uint32_t in_page = entry & ((1U << page_shift) - 1);
        return data + pages[entry >> page_shift] * page_stride + Index{in_page} * token_stride;
    }
    FREQKV_INLINE T* row(int r) const { return pages == nullptr ? row<false>(r) : row<true>(r); }

    /// Calls f(access), access being the fastest of those below that these rows allow.
    template <class F>
    FREQKV_INLINE void with_access(const F& f) const {
        const bool all_split = columns.half_split && 2 * columns.pairs == columns.dims;
        const bool none_split = !columns.half_split || columns.pairs == 0;
        if (wide && none_split) {
            pages == nullptr ? f(RowAccess<true, false, false>{}) : f(RowAccess<true, false, true>{});
        } else if (wide && all_split) {
            pages == nullptr ? f(RowAccess<true, true, false>{}) : f(RowAccess<true, true, true>{});
        } else {
            f(RowAccess<false, false, false>{});
        }
    }

    /// Complex columns [first_column, first_column + columns_of<V>); 0 behind the last column. Where access is wide, at
    /// once and without a branch, so that several loads can be under way at a time.
    template <class Access, class V>
    FREQKV_INLINE Complex<V> load(int r, int first_column) const {
        constexpr int width = columns_of<V>;
        Complex<V> x{};
        if constexpr (!Access::wide) {
            const T* const at = row(r);
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                const int c = first_column + i;
                if (c >= columns.count()) return;
                column(x.re, i) = to_float(at[columns.first(c) * dim_stride]);
                if (columns.second(c) < columns.dims) {
                    column(x.im, i) = to_float(at[columns.second(c) * dim_stride]);
                }
            });
        } else {
            const bool inside = first_column < columns.count();
            const int at_column = inside ? first_column : 0;
            const T* const at = row<Access::paged>(r);
            if constexpr (Access::split) {
                const auto re = load_elements<width>(at + at_column);
                const auto im = load_elements<width>(at + at_column + columns.pairs);
                each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                    column(x.re, i) = inside ? to_float(re.values[i]) : 0.0F;
                    column(x.im, i) = inside ? to_float(im.values[i]) : 0.0F;
                });
            } else {
                const auto both = load_elements<2 * width>(at + 2 * at_column);
                each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                    column(x.re, i) = inside ? to_float(both.values[2 * i]) : 0.0F;
                    column(x.im, i) = inside ? to_float(both.values[2 * i + 1]) : 0.0F;
                });
            }
        }
        return x;
    }

    template <class Access, class V>
    FREQKV_INLINE void store(int r, int first_column, const Complex<V>& x) const {
        constexpr int width = columns_of<V>;
        if (first_column >= columns.count()) return;
        if constexpr (!Access::wide) {
            T* const at = row(r);
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                const int c = first_column + i;
                if (c >= columns.count()) return;
                at[columns.first(c) * dim_stride] = from_float<Element>(column(x.re, i));
                if (columns.second(c) < columns.dims) {
                    at[columns.second(c) * dim_stride] = from_float<Element>(column(x.im, i));
                }
            });
        } else if constexpr (Access::split) {
            Elements<Element, width> re;
            Elements<Element, width> im;
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                re.values[i] = from_float<Element>(column(x.re, i));
                im.values[i] = from_float<Element>(column(x.im, i));
            });
            store_elements(row<Access::paged>(r) + first_column, re);
            store_elements(row<Access::paged>(r) + first_column + columns.pairs, im);
        } else {
            Elements<Element, 2 * width> both;
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                both.values[2 * i] = from_float<Element>(column(x.re, i));
                both.values[2 * i + 1] = from_float<Element>(column(x.im, i));
            });
            store_elements(row<Access::paged>(r) + 2 * first_column, both);
        }
    }

    /// The columns turned by position * theta, or back.
    template <bool Inverse, class V>
    FREQKV_INLINE Complex<V> turned(const Complex<V>& x, int first_column, const std::uint64_t* frequencies,
                                    Index position) const {
        Complex<V> result = x;
        each<V>([&](int i) FREQKV_INLINE_LAMBDA {
            if (first_column + i >= columns.pairs) return;
            const Complex<float> angle = rope_angle(position, frequencies[first_column + i]);
            const Complex<float> value{column(x.re, i), column(x.im, i)};
            const Complex<float> turned = value.turned(angle.re, Inverse ? -angle.im : angle.im);
            column(result.re, i) = turned.re;
            column(result.im, i) = turned.im;
        });
        return result;
    }

private:
    // f(i) for every column of V.
    template <class V, class F>
    FREQKV_INLINE static void each(const F& f) {
        freqkv::detail::unrolled<columns_of<V>>([&](auto i) FREQKV_INLINE_LAMBDA { f(static_cast<int>(i)); });
    }
};

template <class T>
EntryRows<const T> read_only(const EntryRows<T>& rows) {
    return {rows.data,       rows.pages,      rows.head_stride, rows.page_stride, rows.token_stride,
            rows.dim_stride, rows.page_shift, rows.first,       rows.columns,     rows.wide};
}

/// Whether packs of up to two columns may be moved at once: 4 elements, or 2 for the halves of split pairs.
template <class T>
bool allows_wide(const T* data, std::span<const Index> strides, Index dim_stride, const Columns& columns) {
    constexpr Index pack = 4;
    if (dim_stride != 1 || columns.dims % pack != 0 || columns.pairs % 2 != 0) return false;
    if (reinterpret_cast<std::uintptr_t>(data) % (pack * sizeof(T)) != 0) return false;
    return std::all_of(strides.begin(), strides.end(), [](Index stride) { return stride % pack == 0; });
}

/// The rows of a checked view, from `first` on.
template <class T>
EntryRows<T> rows_of(const KVView<T>& view, const Columns& columns, Index first = 0) {
    EntryRows<T> rows;
    rows.data = view.data;
    rows.head_stride = view.head_stride;
    rows.token_stride = view.token_stride;
    rows.dim_stride = view.dim_stride;
    rows.first = static_cast<int>(first);
    rows.columns = columns;
    rows.wide = allows_wide(view.data, std::array{view.head_stride, view.token_stride}, view.dim_stride, columns);
    return rows;
}

template <class T>
EntryRows<T> rows_of(const PagedKVView<T>& view, const Columns& columns, Index first = 0) {
    EntryRows<T> rows;
    rows.data = view.data;
    rows.pages = view.block_table;
    rows.head_stride = view.head_stride;
    rows.page_stride = view.page_stride;
    rows.token_stride = view.token_stride;
    rows.dim_stride = view.dim_stride;
    while (Index{1} << rows.page_shift < view.page_tokens) ++rows.page_shift;
    rows.first = static_cast<int>(first);
    rows.columns = columns;
    rows.wide = allows_wide(view.data, std::array{view.head_stride, view.page_stride, view.token_stride},
                            view.dim_stride, columns);
    return rows;
}

}  // namespace freqkv::cuda::detail
