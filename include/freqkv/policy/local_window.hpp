// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/policy/codec_needs.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

/// Keeps the latest entries of a span.
struct SelectLatest {
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* /*scratch*/) const noexcept {
        for (Index i = 0; i < keep; ++i) chosen[i] = span.size() - keep + i;
        return keep;
    }
};

/// The paper's baseline: sinks and the most recent entries, everything else is forgotten (StreamingLLM).
/// With the same ratio it compresses as often as LowPass and keeps as many entries.
struct LocalWindow {
    WholeSpan schedule;
    SelectLatest codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit LocalWindow(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace freqkv
