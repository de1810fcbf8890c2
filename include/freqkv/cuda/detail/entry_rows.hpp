// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <type_traits>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/float_pair.hpp"
#include "freqkv/detail/unrolled.hpp"

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

/// N elements that are read or written at once.
template <class T, int N>
struct alignas(N * sizeof(T)) Elements {
    T values[N];
};

/// The N elements from `at` on, which is aligned for it.
template <int N, class T>
FREQKV_INLINE Elements<T, N> load_elements(const T* at) {
    return *reinterpret_cast<const Elements<T, N>*>(at);
}

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

    template <bool Paged>
    FREQKV_INLINE T* row(int head, int r) const {
        T* const base = data + head * head_stride;
        const int entry = first + r;
        if constexpr (!Paged) return base + entry * token_stride;
        const int in_page = entry & ((1 << page_shift) - 1);
        return base + pages[entry >> page_shift] * page_stride + in_page * token_stride;
    }
    FREQKV_INLINE T* row(int head, int r) const { return pages == nullptr ? row<false>(head, r) : row<true>(head, r); }

    /// Complex columns [first_column, first_column + columns_of<V>) of pairs (2c, 2c + 1), at once.
    template <class V, bool Paged>
    FREQKV_INLINE Complex<V> load_wide(int head, int r, int first_column) const {
        Complex<V> x{};
        if (first_column >= columns.count()) return x;
        const auto both = load_elements<2 * columns_of<V>>(row<Paged>(head, r) + 2 * first_column);
        each<V>([&](int i) FREQKV_INLINE_LAMBDA {
            column(x.re, i) = static_cast<float>(both.values[2 * i]);
            column(x.im, i) = static_cast<float>(both.values[2 * i + 1]);
        });
        return x;
    }

    template <class V, bool Paged>
    FREQKV_INLINE void store_wide(int head, int r, int first_column, const Complex<V>& x) const {
        if (first_column >= columns.count()) return;
        Elements<Element, 2 * columns_of<V>> both;
        each<V>([&](int i) FREQKV_INLINE_LAMBDA {
            both.values[2 * i] = static_cast<Element>(column(x.re, i));
            both.values[2 * i + 1] = static_cast<Element>(column(x.im, i));
        });
        *reinterpret_cast<Elements<Element, 2 * columns_of<V>>*>(row<Paged>(head, r) + 2 * first_column) = both;
    }

    /// Any complex columns [first_column, first_column + columns_of<V>); those behind the last are 0.
    template <class V>
    FREQKV_INLINE Complex<V> load(int head, int r, int first_column) const {
        constexpr int width = columns_of<V>;
        Complex<V> x{};
        if (first_column >= columns.count()) return x;
        const T* const at = row(head, r);
        if (wide && columns.is_split(first_column)) {
            const auto re = load_elements<width>(at + first_column);
            const auto im = load_elements<width>(at + first_column + columns.pairs);
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                column(x.re, i) = static_cast<float>(re.values[i]);
                column(x.im, i) = static_cast<float>(im.values[i]);
            });
        } else if (wide) {
            return pages == nullptr ? load_wide<V, false>(head, r, first_column)
                                    : load_wide<V, true>(head, r, first_column);
        } else {
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                const int c = first_column + i;
                if (c >= columns.count()) return;
                column(x.re, i) = static_cast<float>(at[columns.first(c) * dim_stride]);
                if (columns.second(c) < columns.dims) {
                    column(x.im, i) = static_cast<float>(at[columns.second(c) * dim_stride]);
                }
            });
        }
        return x;
    }

    template <class V>
    FREQKV_INLINE void store(int head, int r, int first_column, const Complex<V>& x) const {
        constexpr int width = columns_of<V>;
        if (first_column >= columns.count()) return;
        T* const at = row(head, r);
        if (wide && columns.is_split(first_column)) {
            Elements<Element, width> re;
            Elements<Element, width> im;
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                re.values[i] = static_cast<Element>(column(x.re, i));
                im.values[i] = static_cast<Element>(column(x.im, i));
            });
            *reinterpret_cast<Elements<Element, width>*>(at + first_column) = re;
            *reinterpret_cast<Elements<Element, width>*>(at + first_column + columns.pairs) = im;
        } else if (wide) {
            pages == nullptr ? store_wide<V, false>(head, r, first_column, x)
                             : store_wide<V, true>(head, r, first_column, x);
        } else {
            each<V>([&](int i) FREQKV_INLINE_LAMBDA {
                const int c = first_column + i;
                if (c >= columns.count()) return;
                at[columns.first(c) * dim_stride] = static_cast<Element>(column(x.re, i));
                if (columns.second(c) < columns.dims) {
                    at[columns.second(c) * dim_stride] = static_cast<Element>(column(x.im, i));
                }
            });
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

}  // namespace freqkv::cuda::detail
