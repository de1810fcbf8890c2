// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/frequency_compressor.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

/// Keeps the low frequencies of a span (equations 6 to 8 of the paper), through the given DCT backend.
template <class Backend = dct::Simd>
struct FrequencyCodec {
    template <class C>
    FrequencyCompressor<C, Backend> plan(Index length, Index keep) const {
        return FrequencyCompressor<C, Backend>(length, keep);
    }
};

static_assert(TransformCodec<FrequencyCodec<>, float> && TransformCodec<FrequencyCodec<>, double>);

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
