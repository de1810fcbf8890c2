// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "naive.hpp"

namespace freqkv::cuda {
namespace {

using detail::check_pages;
using detail::checked_extent;
using detail::Extent;

float device_memory[4096];

template <class F>
std::string message(const F& f) {
    try {
        f();
    } catch (const Error& error) {
        return error.what();
    }
    return "accepted";
}

template <class T>
std::string message_of(const KVView<T>& view) {
    return message([&] { checked_extent("keys", view); });
}

TEST(CudaViews, AreRefusedWithTheReason) {
    const KVView<float> good(device_memory, 2, 8, 4);
    EXPECT_EQ(message_of(good), "accepted");
    const auto with = [&](auto member, auto value) {
        KVView<float> view = good;
        view.*member = value;
        return view;
    };
    using View = KVView<float>;
    EXPECT_EQ(message_of(with(&View::data, nullptr)), "freqkv: data of keys is 0, must not be null");
    EXPECT_EQ(message_of(with(&View::heads, 0)), "freqkv: heads of keys is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(message_of(with(&View::tokens, -3)), "freqkv: tokens of keys is -3, must be 1 to 2^31 - 1");
    EXPECT_EQ(message_of(with(&View::tokens, Index{1} << 31)),
              "freqkv: tokens of keys is 2147483648, must be 1 to 2^31 - 1");
    EXPECT_EQ(message_of(with(&View::head_dim, 0)), "freqkv: head_dim of keys is 0, must be 1 to 2^20");
    EXPECT_THAT(message_of(with(&View::token_stride, Index{1} << 40)), testing::HasSubstr("must be within 2^40"));
    EXPECT_EQ(message_of(with(&View::token_stride, 0)),
              "freqkv: strides of keys is 32, 0, 1, must give every element of [2, 8, 4] a place of its own");
    EXPECT_EQ(message_of(with(&View::token_stride, 3)),
              "freqkv: strides of keys is 32, 3, 1, must give every element of [2, 8, 4] a place of its own");
    EXPECT_THAT(message_of(with(&View::head_stride, 31)), testing::HasSubstr("a place of its own"));
    const auto odd = reinterpret_cast<float*>(reinterpret_cast<std::uintptr_t>(device_memory) + 2);
    EXPECT_THAT(message_of(with(&View::data, odd)), testing::HasSubstr("must be a multiple of the element's size, 4"));
}

TEST(CudaViews, ReachFromTheLowestToTheHighestElement) {
    const Extent extent = checked_extent("keys", KVView<float>(device_memory + 100, 2, 5, 3, 40, -3, 1));
    EXPECT_EQ(extent.begin, reinterpret_cast<std::uintptr_t>(device_memory + 100 - 12));
    EXPECT_EQ(extent.end, reinterpret_cast<std::uintptr_t>(device_memory + 100 + 40 + 2 + 1));
}

std::set<Index> elements(const KVView<float>& view) {
    std::set<Index> offsets;
    for (Index h = 0; h < view.heads; ++h) {
        for (Index t = 0; t < view.tokens; ++t) {
            for (Index d = 0; d < view.head_dim; ++d) offsets.insert(&view.head(h)(t, d) - device_memory);
        }
    }
    return offsets;
}

bool share_an_element(const KVView<float>& a, const KVView<float>& b) {
    const std::set<Index> of_a = elements(a);
    for (const Index offset : elements(b)) {
        if (of_a.contains(offset)) return true;
    }
    return false;
}

// Views of the same strides, in every order of axes and at every distance: exactly.
TEST(CudaViews, OverlapIsFoundElementByElement) {
    struct Strides {
        Index head, token, dim;
    };
    int apart_in_the_same_stretch = 0;
    for (const Strides& s : {Strides{40, 8, 1}, Strides{4, 20, 1}, Strides{60, 1, 12}, Strides{50, 10, 2}}) {
        const KVView<float> a(device_memory + 500, 2, 4, 3, s.head, s.token, s.dim);
        for (Index distance = -130; distance <= 130; ++distance) {
            const KVView<float> b(device_memory + 500 + distance, 2, 3, 3, s.head, s.token, s.dim);
            const Extent of_a = checked_extent("a", a);
            const Extent of_b = checked_extent("b", b);
            ASSERT_EQ(detail::overlap(of_a, of_b), share_an_element(a, b))
                << "strides " << s.head << ", " << s.token << ", " << s.dim << ", distance " << distance;
            ASSERT_EQ(detail::overlap(of_b, of_a), detail::overlap(of_a, of_b));
            if (of_a.begin < of_b.end && of_b.begin < of_a.end && !detail::overlap(of_a, of_b)) {
                ++apart_in_the_same_stretch;
            }
        }
    }
    EXPECT_GT(apart_in_the_same_stretch, 100) << "keys and values that alternate in one buffer are no overlap";
}

// Keys and values that alternate in one buffer, one of them a single head or dimension wide.
TEST(CudaViews, AnAxisOfOneStepsNowhere) {
    for (const Index dims : {1, 3}) {
        for (const Index heads : {1, 2}) {
            const KVView<float> a(device_memory + 500, 2, 4, 3, 4, 20, 1);
            for (Index distance = -90; distance <= 90; ++distance) {
                const KVView<float> b(device_memory + 500 + distance, heads, 4, dims, heads == 1 ? 777 : 4, 20,
                                      dims == 1 ? 99 : 1);
                ASSERT_EQ(detail::overlap(checked_extent("a", a), checked_extent("b", b)), share_an_element(a, b))
                    << heads << " heads, " << dims << " dimensions, distance " << distance;
            }
        }
    }
}

TEST(CudaViews, OfDifferentStridesInTheSameStretchCountAsOverlapping) {
    const Extent a = checked_extent("a", KVView<float>(device_memory, 2, 4, 3, 40, 8, 1));
    EXPECT_TRUE(detail::overlap(a, checked_extent("b", KVView<float>(device_memory + 4, 2, 4, 3, 40, 9, 1))));
    EXPECT_FALSE(detail::overlap(a, checked_extent("b", KVView<float>(device_memory + 67, 2, 4, 3, 40, 9, 1))));
}

TEST(CudaViews, OfSeveralTasksMustBeApart) {
    const auto extent = [](const char* name, Index offset, Index task, bool is_written) {
        Extent e = checked_extent(name, KVView<float>(device_memory + offset, 2, 8, 4));
        e.task = task;
        e.is_written = is_written;
        return e;
    };
    const auto verdict = [](std::vector<Extent> extents) {
        return message([&] { detail::check_apart(std::move(extents)); });
    };
    EXPECT_EQ(verdict({extent("in", 0, 1, false), extent("out", 0, 1, true), extent("out", 64, 2, true)}), "accepted");
    EXPECT_EQ(verdict({extent("in", 0, 1, false), extent("in", 0, 2, false)}), "accepted") << "both only read";
    EXPECT_EQ(verdict({extent("in", 0, 1, false), extent("out", 63, 2, true)}),
              "freqkv: overlap is in with out, must not be: one call works on both at the same time");
    EXPECT_EQ(verdict({extent("keys", 200, 1, true), extent("keys", 0, 2, true), extent("values", 210, 3, true)}),
              "freqkv: overlap is keys with values, must not be: one call works on both at the same time");
}

TEST(CudaViews, InPlaceIsAllOrNothing) {
    const KVView<const float> in(device_memory, 1, 8, 4);
    const KVView<float> same(device_memory, 1, 4, 4);
    const KVView<float> shifted(device_memory + 4, 1, 4, 4);
    const auto verdict = [&](const KVView<float>& out) {
        return message([&] {
            detail::check_in_and_out(checked_extent("in", in), checked_extent("out", out), detail::same_place(in, out));
        });
    };
    EXPECT_EQ(verdict(same), "accepted");
    EXPECT_EQ(verdict(KVView<float>(device_memory + 32, 1, 4, 4)), "accepted");
    EXPECT_EQ(
        verdict(shifted),
        "freqkv: overlap is in with out, must not be, unless both begin at the same element with the same strides");
}

TEST(CudaPages, AreRefusedWithTheReason) {
    const std::int32_t table[4] = {3, 1, 0, 2};
    using View = PagedKVView<float>;
    View good{device_memory, table, 4, 16, 2, 60, 4, 128, 64, 4};
    const auto verdict = [&](auto member, auto value) {
        View view = good;
        view.*member = value;
        return message([&] { check_pages("keys", view); });
    };
    EXPECT_EQ(verdict(&View::tokens, 64), "accepted");
    EXPECT_EQ(verdict(&View::tokens, 65), "freqkv: tokens of keys is 65, must not be above the room in its pages, 64");
    EXPECT_EQ(verdict(&View::block_table, nullptr), "freqkv: block_table of keys is 0, must not be null");
    EXPECT_EQ(verdict(&View::page_tokens, 24), "freqkv: page_tokens of keys is 24, must be a power of two up to 2^20");
    EXPECT_EQ(verdict(&View::page_tokens, 0), "freqkv: page_tokens of keys is 0, must be a power of two up to 2^20");
    EXPECT_EQ(verdict(&View::table_pages, -1), "freqkv: table_pages of keys is -1, must be 0 to 2^31 - 1");
    EXPECT_EQ(verdict(&View::page_stride, 127),
              "freqkv: page_stride of keys is 127, must step over a page, which reaches over 128 elements");
    EXPECT_EQ(verdict(&View::data, nullptr), "freqkv: data of keys is 0, must not be null");
    EXPECT_THAT(verdict(&View::token_stride, 3), testing::HasSubstr("a place of its own"));
}

TEST(CudaRows, AreWideOnlyWhereAligned) {
    const detail::Columns columns{8, 4, true};
    const auto wide = [&](const KVView<float>& view, const detail::Columns& c) {
        return detail::rows_of(view, c).wide;
    };
    alignas(16) static float aligned[256];
    EXPECT_TRUE(wide(KVView<float>(aligned, 2, 8, 8), columns));
    EXPECT_FALSE(wide(KVView<float>(aligned + 2, 2, 8, 8), columns)) << "address";
    EXPECT_FALSE(wide(KVView<float>(aligned, 2, 8, 8, 64, 10, 1), columns)) << "token stride";
    EXPECT_FALSE(wide(KVView<float>(aligned, 2, 8, 8, 90, 8, 1), columns)) << "head stride";
    EXPECT_FALSE(wide(KVView<float>(aligned, 2, 8, 8, 8, 1, 16), columns)) << "transposed";
    EXPECT_FALSE(wide(KVView<float>(aligned, 2, 8, 6, 48, 8, 1), {6, 3, true})) << "odd pairs";
    EXPECT_FALSE(wide(KVView<float>(aligned, 2, 8, 8), {8, 3, false})) << "odd pairs";
}

}  // namespace
}  // namespace freqkv::cuda
