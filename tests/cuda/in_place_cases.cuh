// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "device_tests.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/rope_options.hpp"
#include "naive.hpp"

namespace freqkv::cuda::in_place_test {

// Of what happens in float between reading and writing, angles included, relative to the largest element.
inline constexpr double tolerance = 2e-6;

// Spans with entries between them that stay, or none, at ratios from nothing to nearly all.
struct TwoSpansSchedule {
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        const Index third = (layout.entries - layout.sinks - layout.recent) / 3;
        return {{layout.sinks + 1, third, third / 2}, {layout.sinks + 3 + third, third, third - 1}};
    }
};
struct ThreeSpansSchedule {
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        const Index quarter = (layout.entries - layout.sinks - layout.recent) / 4;
        return {{layout.sinks, quarter, 1},
                {layout.sinks + quarter, quarter, quarter / 2},
                {layout.sinks + 2 * quarter + 5, quarter, quarter - 2}};
    }
};
// Drops as many entries as there have been compressions, plus one.
struct OneMoreEachTime {
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        const Index length = layout.entries - layout.sinks - layout.recent;
        return {{layout.sinks, length, length - 1 - compressions}};
    }
};

struct TwoSpans {
    TwoSpansSchedule schedule;
    FrequencyCodec<> codec;
};
struct ThreeSpans {
    ThreeSpansSchedule schedule;
    FrequencyCodec<> codec;
};
struct CountingSchedule {
    OneMoreEachTime schedule;
    FrequencyCodec<> codec;
};

inline std::vector<Index> from_zero(Index tokens) {
    std::vector<Index> positions(static_cast<std::size_t>(tokens));
    std::iota(positions.begin(), positions.end(), 0);
    return positions;
}

inline naive::Rotary rotary_of(const RopeOptions& options) {
    const Index rotated = options.rotated_dims == -1 ? options.head_dim : options.rotated_dims;
    return {static_cast<std::size_t>(rotated), options.base, options.pairing == RopePairing::adjacent,
            options.linear_scaling, options.frequency_factors};
}

// Schedules of a user's own with the codec of LocalWindow.
struct LatestOfTwoSpans {
    TwoSpansSchedule schedule;
    SelectLatest codec;
};
struct LatestOfThreeSpans {
    ThreeSpansSchedule schedule;
    SelectLatest codec;
};

// The spans of a list, and what becomes of each.
template <class P>
SpanList spans_of(const P& policy, const CacheLayout& layout) {
    return policy.schedule.plan(layout, 0);
}
using Compress = naive::Rows (*)(const naive::Rows&, std::size_t keep);
template <class P>
Compress compress_of() {
    if constexpr (std::is_same_v<decltype(P::codec), SelectLatest>) {
        return naive::latest;
    } else {
        return naive::low_passed;
    }
}

// One head's entries afterwards, from those before: spans are un-rotated, compressed and rotated at their new indices;
// the others turn to theirs.
inline naive::Rows compressed(const naive::Rows& before, const SpanList& spans, Compress compress,
                              const std::vector<Index>& positions, const naive::Rotary& rotary) {
    naive::Rows after;
    std::size_t next = 0;
    const auto index = [&] { return static_cast<Index>(after.size()); };
    const auto stay = [&](std::size_t end) {
        for (; next < end; ++next) after.push_back(naive::rotated(before[next], index() - positions[next], rotary));
    };
    for (const Span& span : spans) {
        stay(static_cast<std::size_t>(span.begin));
        naive::Rows plain;
        for (; next < static_cast<std::size_t>(span.begin + span.length); ++next) {
            plain.push_back(naive::rotated(before[next], -positions[next], rotary));
        }
        for (const naive::Row& row : compress(plain, static_cast<std::size_t>(span.keep))) {
            after.push_back(naive::rotated(row, index(), rotary));
        }
    }
    stay(before.size());
    return after;
}

// Where lists lie: views with strides, or pages of a pool in no order, as engines lay out a page.
enum class Place { strided, pages_by_token, pages_by_head };

inline std::string name_of(Place place) {
    return place == Place::strided ? "strided" : place == Place::pages_by_token ? "pages by token" : "pages by head";
}

struct Shape {
    Index heads = 2;
    Index tokens = 0;
    Index key_dim = 16;
    Index value_dim = 12;
};

// Lists of one or more sequences and layers in one Memory. Those in pages take turns to take the pool's pages, which
// are shuffled.
template <class T>
class Lists {
public:
    struct List {
        Entries<T> keys, values;
    };

    Lists(const std::vector<Shape>& shapes, Place place, Index page_tokens = 16)
        : memory_(place == Place::strided ? strided_size(shapes) : pool_size(shapes, page_tokens)) {
        if (place == Place::strided) {
            Index begin = margin;
            for (const Shape& shape : shapes) {
                // [tokens, heads, {key, value}], and padding behind each token.
                const Index both = shape.key_dim + shape.value_dim;
                const Strides strides{both, shape.heads * both + 4, 1};
                lists_.push_back(
                    {Entries<T>(memory_, begin, shape.heads, shape.tokens, shape.key_dim, strides),
                     Entries<T>(memory_, begin + shape.key_dim, shape.heads, shape.tokens, shape.value_dim, strides)});
                begin += strided_size(shape);
            }
        } else {
            const Index page_size = largest_page(shapes, page_tokens);
            std::vector<std::int32_t> free(static_cast<std::size_t>((memory_.size() - 2 * margin) / page_size));
            std::iota(free.begin(), free.end(), 0);
            std::shuffle(free.begin(), free.end(), std::mt19937(5));
            const auto entries = [&](const Shape& shape, Index dim) {
                const Index pages = pages_of(shape, page_tokens) + 1;  // an empty one at the end
                const std::vector<std::int32_t> table(free.end() - pages, free.end());
                free.resize(free.size() - table.size());
                const Strides strides = place == Place::pages_by_token ? Strides{dim, shape.heads * dim, 1}
                                                                       : Strides{page_tokens * dim, dim, 1};
                return Entries<T>(memory_, margin, shape.heads, shape.tokens, dim, strides, table, page_tokens,
                                  page_size);
            };
            for (const Shape& shape : shapes) {
                Entries<T> keys = entries(shape, shape.key_dim);
                lists_.push_back({std::move(keys), entries(shape, shape.value_dim)});
            }
        }
    }
    Lists(const Lists&) = delete;
    Lists& operator=(const Lists&) = delete;

    // Random entries, keys rotated at positions[list][token]; the same for every T, place and page but for rounding.
    Lists& fill(const std::vector<std::vector<Index>>& positions, const naive::Rotary& rotary, std::uint64_t seed) {
        for (std::size_t l = 0; l < lists_.size(); ++l) {
            List& list = lists_[l];
            naive::Random next(seed + l);
            for (Index h = 0; h < list.keys.heads(); ++h) {
                for (Index t = 0; t < list.keys.tokens(); ++t) {
                    list.keys.set_row(h, t,
                                      naive::rotated(random_row(next, list.keys.dim(), t),
                                                     positions[l][static_cast<std::size_t>(t)], rotary));
                    list.values.set_row(h, t, random_row(next, list.values.dim(), t + 7));
                }
            }
        }
        memory_.upload();
        return *this;
    }

    void download(cudaStream_t stream = nullptr) {
        memory_.download(stream);
        memory_.expect_rest_untouched();
    }

    std::size_t size() const { return lists_.size(); }
    const List& operator[](std::size_t l) const { return lists_[l]; }

    template <class View>
    std::vector<ForeignList<View>> as() const {
        std::vector<ForeignList<View>> views;
        for (const List& list : lists_)
            views.push_back({list.keys.template as<View>(), list.values.template as<View>()});
        return views;
    }

private:
    static constexpr Index margin = 64;

    // A key or value: slow, as they are, and some noise.
    static naive::Row random_row(naive::Random& next, Index dim, Index token) {
        naive::Row row;
        for (Index d = 0; d < dim; ++d) {
            row.push_back(std::sin(0.05 * static_cast<double>(token * (d + 1))) + 0.3 * next());
        }
        return row;
    }

    static Index strided_size(const Shape& shape) {
        return (shape.tokens + 1) * (shape.heads * (shape.key_dim + shape.value_dim) + 4);
    }
    static Index strided_size(const std::vector<Shape>& shapes) {
        Index size = 2 * margin;
        for (const Shape& shape : shapes) size += strided_size(shape);
        return size;
    }

    static Index pages_of(const Shape& shape, Index page_tokens) {
        return (shape.tokens + page_tokens - 1) / page_tokens;
    }
    static Index largest_page(const std::vector<Shape>& shapes, Index page_tokens) {
        Index size = 0;
        for (const Shape& shape : shapes) {
            size = std::max(size, page_tokens * shape.heads * std::max(shape.key_dim, shape.value_dim));
        }
        return size;
    }
    static Index pool_size(const std::vector<Shape>& shapes, Index page_tokens) {
        Index pages = 3;  // of nobody
        for (const Shape& shape : shapes) pages += 2 * (pages_of(shape, page_tokens) + 1);
        return pages * largest_page(shapes, page_tokens) + 2 * margin;
    }

    Memory<T> memory_;
    std::vector<List> lists_;
};

// Calls f with the type of views that lists in this place have.
template <class T, class F>
auto with_views(Place place, const F& f) {
    return place == Place::strided ? f(KVView<T>()) : f(PagedKVView<T>());
}

template <class T>
void expect_head(const Entries<T>& entries, Index head, const naive::Rows& expected) {
    EXPECT_LT(largest_error<T>(entries.rows(head, static_cast<Index>(expected.size())), expected), tolerance)
        << "head " << head;
}

// Fills one list, compresses it, and compares with the formula.
template <class T, class P>
void expect_the_definition(const Shape& shape, Place place, const P& policy, const std::optional<RopeOptions>& rope,
                           const InPlaceOptions& options, const std::vector<Index>& positions, bool give_positions) {
    const naive::Rotary rotary = rope ? rotary_of(*rope) : naive::Rotary{};
    Lists<T> lists({shape}, place);
    lists.fill({positions}, rotary, 11);
    std::vector<naive::Rows> keys, values;
    for (Index h = 0; h < shape.heads; ++h) {
        keys.push_back(lists[0].keys.rows(h));
        values.push_back(lists[0].values.rows(h));
    }
    const SpanList spans = spans_of(policy, {shape.tokens, options.sinks, options.recent});
    Index length = shape.tokens;
    for (const Span& span : spans) length -= span.length - span.keep;

    InPlaceCompressor<T, P> compressor(policy, rope ? std::optional<Rope>(*rope) : std::nullopt);
    const DeviceArray<Index> table(give_positions ? positions : std::vector<Index>());
    with_views<T>(place, [&](auto view) {
        auto views = lists.template as<decltype(view)>();
        views.front().positions = table.data();
        const std::span<const InPlaceResult> results =
            compressor.compress(std::span<const ForeignList<decltype(view)>>(views), options);
        ASSERT_EQ(results.size(), 1U);
        ASSERT_EQ(results.front().length, length);
    });
    lists.download();
    for (Index h = 0; h < shape.heads; ++h) {
        const auto head = static_cast<std::size_t>(h);
        {
            SCOPED_TRACE("keys");
            expect_head(lists[0].keys, h, compressed(keys[head], spans, compress_of<P>(), positions, rotary));
        }
        SCOPED_TRACE("values");
        expect_head(lists[0].values, h, compressed(values[head], spans, compress_of<P>(), positions, naive::Rotary{}));
    }
}

template <class T>
class DeviceInPlaceTest : public testing::Test {};

}  // namespace freqkv::cuda::in_place_test
