// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/codec_needs.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

namespace detail::inline FREQKV_ISA {
template <class T>
struct KeyMatching;  // detail/policy/key_matching.hpp, which policy.hpp has and compilers for devices do not read
}

inline namespace FREQKV_ISA {

/// A MergeCodec of similar keys, by the bipartite matching of ToMe (arXiv 2210.09461). Of the entries of a span those
/// at odd places stay (the second, the fourth, …). Each of the others looks for the one among the nearest `reach` of
/// them on each side whose un-rotated key points most like its own (the largest cosine; of equal ones the nearest, of
/// two as near the later); and as many as have to go, the most similar pairs first (of equal ones the latest), go into
/// the entry that they found. Where fewer than half are to stay, all of the others go, and the same is done again with
/// what stayed, each by the key that it had at first.
struct MergeSimilar {
    Index reach = 16;  ///< at least 1; any that is longer than the span: all are compared with all

    template <class T>
    Index scratch_bytes(const SpanReader<T>& span, Index /*keep*/) const {
        return detail::KeyMatching<T>::scratch_bytes(span);
    }

    /// O(n * min(n, 2 * reach + 64) * key_dim) for a span of n. Throws Error for a `reach` below 1.
    template <class T>
    void merge(const SpanReader<T>& span, Index keep, Index* into, std::byte* scratch) const {
        require(reach >= 1, "reach", reach, "must be at least 1");
        detail::KeyMatching<T>::match(span, keep, reach, into, scratch);
    }
};

/// Entries with similar keys become one, the mean of the tokens that it stands for.
struct Merge {
    WholeSpan schedule;
    MergeSimilar codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression; `reach` as in MergeSimilar.
    explicit Merge(double ratio = 0.5, Index reach = 16) : schedule{ratio}, codec{reach} {}
};

}  // namespace FREQKV_ISA

}  // namespace freqkv
