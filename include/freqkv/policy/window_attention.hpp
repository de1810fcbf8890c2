// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/codec_needs.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

/// How a score is shared with its neighbours, so that what stands around an entry that is looked at stays as well.
enum class Pooling : std::uint8_t { maximum, mean };

namespace detail::inline FREQKV_ISA {
template <class T>
struct WindowScores;  // detail/policy/window_scores.hpp, which policy.hpp has and compilers for devices do not read
}

inline namespace FREQKV_ISA {

/// The attention that the queries of the latest `Window` tokens give to an entry: the sum over these tokens and the
/// heads of the group of softmax weights over the whole list, each token seeing what stands before it; then pooled
/// over `pool` neighbours within the span (a mean counts those outside as 0). One query without pooling is TOVA's
/// score, of each KV head by itself.
///
/// Queries are taken to be asked at the end of the list, which is so where at least `Window` tokens came since the
/// latest compression or are in the recent part.
template <Index Window>
struct WindowAttention {
    static_assert(Window >= 1);
    static constexpr Index query_window = Window;

    Index pool = 1;  ///< odd; 1: as they are
    Pooling pooling = Pooling::maximum;
    double scale = 0;       ///< of the scores before the softmax; 0: 1 / sqrt(key_dim)
    Index latest = Window;  ///< tokens that are asked; at most Window, for which there is memory

    template <class T>
    Index scratch_bytes(const SpanReader<T>& span) const {
        return detail::WindowScores<T>::scratch_bytes(span, Window);
    }

    /// O(latest * group * list size * key_dim). Throws Error for a `pool` that is not odd, and for `latest` outside of
    /// 1 to Window.
    template <class T>
    void score(const SpanReader<T>& span, Arithmetic<T>* scores, std::byte* scratch) const {
        require_members();
        detail::WindowScores<T>{pool, pooling, scale, latest}.score(span, scores, scratch);
    }

    /// Throws Error for a `pool` that is not odd, and for `latest` outside of 1 to Window.
    void require_members() const {
        require(pool >= 1 && pool % 2 == 1, "pool", pool, "must be odd and at least 1");
        require(latest >= 1 && latest <= Window, "latest", latest, "must be at least 1 and at most Window");
    }
};

/// SnapKV (arXiv 2404.14469), at every compression of a text instead of once behind a prompt: what the latest Window
/// queries look at stays, with its neighbours. Give the cache a recent part of at least Window.
template <Index Window = 32>
struct SnapKV {
    WholeSpan schedule;
    SelectHighest<WindowAttention<Window>> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression; `pool` is odd, 1 for none.
    explicit SnapKV(double ratio = 0.5, Index pool = 7, Pooling pooling = Pooling::maximum)
        : schedule{ratio}, codec{{pool, pooling}} {}
};

/// TOVA (arXiv 2401.06104), many entries at once and each KV head by itself: what the latest query looks at stays.
struct Tova {
    WholeSpan schedule;
    SelectHighest<WindowAttention<1>> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit Tova(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace FREQKV_ISA

}  // namespace freqkv
