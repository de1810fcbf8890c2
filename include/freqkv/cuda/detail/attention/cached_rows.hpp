// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/packed_memory.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/stored_element.hpp"

// Keys and values as attention reads them, of plain elements as of packed ones: rows.row(e).load<N>(d) are N floats of
// entry e.
namespace freqkv::cuda::detail {

template <class T>
struct PlainRow {
    const T* at = nullptr;

    /// Elements [d, d + N), which are aligned for it.
    template <int N>
    FREQKV_INLINE Elements<float, N> load(int d) const {
        const auto some = load_elements<N>(at + d);
        Elements<float, N> elements;
        freqkv::detail::unrolled<N>([&](auto j)
                                        FREQKV_INLINE_LAMBDA { elements.values[j] = to_float(some.values[j]); });
        return elements;
    }
};

/// Rows of one head that follow each other; PackedHead is its counterpart.
template <class T>
struct PlainRows {
    const T* data = nullptr;
    int dim = 0;

    FREQKV_INLINE PlainRow<T> row(int e) const { return {data + Index{e} * dim}; }
};

template <class T>
struct CachedMemoryOf {
    using type = const T*;
};
template <int Bits>
struct CachedMemoryOf<Packed<Bits>> {
    using type = PackedMemory<Bits>;
};
/// The keys, or values, of all lists of a cache.
template <class T>
using CachedMemory = typename CachedMemoryOf<T>::type;

/// Whether tensor cores take entries of T.
template <class T>
inline constexpr bool takes_tensor_cores = sizeof(T) == 2 || is_packed<T>;

/// What tensor cores compute with: entries are unpacked to half.
template <class T>
using MatrixElement = std::conditional_t<is_packed<T>, Half, T>;

}  // namespace freqkv::cuda::detail
