// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

namespace dct::inline FREQKV_ISA {
struct Simd;  // dct/simd.hpp, which compilers for devices do not read
}

namespace detail {
// FrequencyCompressor<C, Backend>: policy/codec.hpp says so to compilers for the host.
template <class C, class Backend>
struct LowPassPlan;
}  // namespace detail

/// Keeps the low frequencies of a span (equations 6 to 8 of the paper), through the given DCT backend. A device has
/// transforms of its own and takes the default alone.
template <class Backend = dct::Simd>
struct FrequencyCodec {
    template <class C>
    typename detail::LowPassPlan<C, Backend>::type plan(Index length, Index keep) const {
        return typename detail::LowPassPlan<C, Backend>::type(length, keep);
    }
};

/// FreqKV, the paper's method: the span between sinks and recent part through the DCT, low frequencies
/// kept. The backend is part of the type: LowPass<dct::Fftw> needs FFTW, LowPass<> nothing.
template <class Backend = dct::Simd>
struct LowPass {
    WholeSpan schedule;
    FrequencyCodec<Backend> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression (the paper: 0.5).
    explicit LowPass(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace freqkv
