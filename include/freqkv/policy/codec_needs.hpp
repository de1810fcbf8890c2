// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"

// What a codec asks for beside its span. Apart from policy/codec.hpp, so that compilers for devices can read policies
// whose codecs run on the host there.
namespace freqkv::inline FREQKV_ISA {

template <class T>
class SpanReader;  // policy/codec.hpp

}  // namespace freqkv::inline FREQKV_ISA

namespace freqkv {

/// The queries that a codec asks for.
template <class Codec>
constexpr Index query_window() {
    if constexpr (requires { Codec::query_window; }) {
        static_assert(Codec::query_window >= 0);
        return Codec::query_window;
    } else {
        return 0;
    }
}

/// Whether a codec asks for the attention that each entry has been given, by `static constexpr bool attention_mass`.
/// The cache is then to be fed through ChunkedAttention.
template <class Codec>
constexpr bool reads_attention_mass() {
    if constexpr (requires { Codec::attention_mass; }) {
        return Codec::attention_mass;
    } else {
        return false;
    }
}

}  // namespace freqkv
