// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <concepts>
#include <string>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

namespace freqkv {

/// The sizes that a schedule may look at: a full list of `entries`, of which the first `sinks` and the
/// last `recent` are kept as they are.
struct CacheLayout {
    Index entries = 0;
    Index sinks = 0;
    Index recent = 0;
};

/// Entries [begin, begin + length), to be compressed to at most `keep` entries.
struct Span {
    Index begin = 0;
    Index length = 0;
    Index keep = 0;

    friend bool operator==(const Span&, const Span&) = default;
};

/// Up to max_size spans, without allocation. A schedule whose tiers grow geometrically needs one span
/// per tier, so 32 reach beyond any memory.
class SpanList {
public:
    static constexpr Index max_size = 32;

    SpanList() = default;
    SpanList(std::initializer_list<Span> spans) {
        for (const Span& span : spans) push_back(span);
    }

    /// Throws Error beyond max_size.
    void push_back(const Span& span) {
        require(size_ < max_size, "number of spans", size_ + 1, "must not be above SpanList::max_size (32)");
        spans_[static_cast<std::size_t>(size_++)] = span;
    }

    Index size() const { return size_; }
    Span& operator[](Index i) { return spans_[static_cast<std::size_t>(i)]; }
    const Span& operator[](Index i) const { return spans_[static_cast<std::size_t>(i)]; }
    Span* begin() { return spans_.data(); }
    Span* end() { return spans_.data() + size_; }
    const Span* begin() const { return spans_.data(); }
    const Span* end() const { return spans_.data() + size_; }

private:
    std::array<Span, static_cast<std::size_t>(max_size)> spans_{};
    Index size_ = 0;
};

/// Says which spans of a full cache are compressed, and to how many entries: a pure function of sizes
/// and of the number of compressions so far. The spans are disjoint, ascending, outside the sinks and
/// the recent part, each with 1 <= keep < length; at least one. May throw to refuse a layout.
template <class S>
concept Schedule = std::copyable<S> && requires(const S& schedule, const CacheLayout& layout, Index compressions) {
    { schedule.plan(layout, compressions) } -> std::same_as<SpanList>;
};

/// Throws Error unless `spans` is what the Schedule concept promises for this layout.
inline void check_spans(const SpanList& spans, const CacheLayout& layout) {
    require(spans.size() >= 1, "number of spans", spans.size(), "a schedule must compress at least one");
    Index free_from = layout.sinks;
    for (const Span& span : spans) {
        const Index end = layout.entries - layout.recent;
        require(span.begin >= free_from, "begin of a span", span.begin,
                "must be behind the sinks and the span before it");
        require(span.length >= 2 && span.length <= end - span.begin, "length of a span", span.length,
                "must be at least 2 and end before the recent part");
        require(span.keep >= 1 && span.keep < span.length, "keep of a span", span.keep,
                "must be within 1 and the span's length - 1");
        free_from = span.begin + span.length;
    }
}

}  // namespace freqkv
