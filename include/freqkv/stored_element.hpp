// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"

namespace freqkv {

/// What caches know of an element type T that they store: what it is computed with, and how it is converted. Made for
/// every type that converts from and to its arithmetic type; specialised where a type needs other functions for that,
/// as CUDA's 16-bit types do (cuda/detail/device/device_elements.cuh). Conversions to T round once, to nearest.
///
/// Packed storage with a scale for each row (8 bits and fewer) will be specialisations with `has_row_scale`, whose
/// conversions take that scale as well. None exists yet.
template <class T>
struct StoredElement {
    using Arithmetic = freqkv::Arithmetic<T>;

    static constexpr bool has_row_scale = false;

    FREQKV_HOST_DEVICE static Arithmetic to_arithmetic(const T& value) { return static_cast<Arithmetic>(value); }
    FREQKV_HOST_DEVICE static T from_arithmetic(Arithmetic value) { return static_cast<T>(value); }
};

}  // namespace freqkv
