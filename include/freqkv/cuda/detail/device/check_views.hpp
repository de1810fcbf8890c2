// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"

// What is refused before a launch: after one, a wrong address is an error of the device that no one can recover from.
namespace freqkv::cuda::detail {

/// The elements of a view of the given element size, as they lie in memory.
struct Extent {
    const char* name = "";
    std::uintptr_t begin = 0;  ///< address of the element with the lowest one
    std::uintptr_t end = 0;    ///< behind the highest
    Index element_bytes = 1;
    Index task = -1;         ///< views of one task may overlap
    bool is_written = true;  ///< and so may those that are only read
    // Heads, tokens, dimensions: size, and stride in elements, negative ones turned round.
    struct Axis {
        Index size, stride;
    };
    std::array<Axis, 3> axes{};
};

/// The axes that have a step to take, the largest stride first.
inline std::vector<Extent::Axis> stepping(const std::array<Extent::Axis, 3>& axes) {
    std::vector<Extent::Axis> sorted;
    std::copy_if(axes.begin(), axes.end(), std::back_inserter(sorted),
                 [](const Extent::Axis& axis) { return axis.size > 1; });
    std::sort(sorted.begin(), sorted.end(),
              [](const Extent::Axis& a, const Extent::Axis& b) { return a.stride > b.stride; });
    return sorted;
}

/// Whether each axis, largest stride first, steps over all that is within the axes behind it: no two elements are the
/// same.
inline bool is_nested(const std::vector<Extent::Axis>& axes) {
    Index inner = 1;
    for (std::size_t i = axes.size(); i-- > 0;) {
        if (axes[i].stride < inner) return false;
        inner += (axes[i].size - 1) * axes[i].stride;
    }
    return true;
}

inline void require_named(bool ok, const char* what, const char* name, Index value, const std::string& allowed) {
    if (!ok) refuse((std::string(what) + " of " + name).c_str(), std::to_string(value), allowed);
}

/// Throws Error unless the view can be read; T is what its elements are.
template <class T>
void check_shape(const char* name, const T* data, Index heads, Index tokens, Index head_dim) {
    constexpr Index most = std::numeric_limits<std::int32_t>::max();
    require_named(data != nullptr, "data", name, 0, "must not be null");
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    require_named(address % sizeof(T) == 0, "address", name, static_cast<Index>(address),
                  "must be a multiple of the element's size, " + std::to_string(sizeof(T)));
    require_named(heads >= 1 && heads <= most, "heads", name, heads, "must be 1 to 2^31 - 1");
    require_named(tokens >= 1 && tokens <= most, "tokens", name, tokens, "must be 1 to 2^31 - 1");
    require_named(head_dim >= 1 && head_dim <= 1 << 20, "head_dim", name, head_dim, "must be 1 to 2^20");
}

/// Throws Error unless the view has memory for each element and none twice.
template <class T>
Extent checked_extent(const char* name, const KVView<T>& view) {
    check_shape(name, view.data, view.heads, view.tokens, view.head_dim);
    const Index sizes[] = {view.heads, view.tokens, view.head_dim};
    const Index strides[] = {view.head_stride, view.token_stride, view.dim_stride};
    Extent extent;
    extent.name = name;
    extent.element_bytes = sizeof(T);
    Index low = 0;
    Index high = 0;
    for (std::size_t i = 0; i < 3; ++i) {
        require_named(strides[i] > -(Index{1} << 40) && strides[i] < Index{1} << 40, "a stride", name, strides[i],
                      "must be within 2^40");
        const Index reach = checked_product("extent of a view", sizes[i] - 1, std::abs(strides[i]));
        require_named(reach < Index{1} << 58, "extent", name, reach, "must be below 2^58 elements");
        (strides[i] < 0 ? low : high) += strides[i] < 0 ? -reach : reach;
        extent.axes[i] = {sizes[i], std::abs(strides[i])};
    }
    const auto data = reinterpret_cast<std::uintptr_t>(view.data);
    extent.begin = data + static_cast<std::uintptr_t>(low * extent.element_bytes);
    extent.end = data + static_cast<std::uintptr_t>((high + 1) * extent.element_bytes);
    if (!is_nested(stepping(extent.axes))) {
        refuse(("strides of " + std::string(name)).c_str(),
               std::to_string(view.head_stride) + ", " + std::to_string(view.token_stride) + ", " +
                   std::to_string(view.dim_stride),
               "must give every element of [" + std::to_string(view.heads) + ", " + std::to_string(view.tokens) + ", " +
                   std::to_string(view.head_dim) + "] a place of its own");
    }
    return extent;
}

/// How far one can step along an axis, from an element of one view to an element of another: `stride` elements at a
/// time, up to `back` times backwards and `forth` times forwards.
struct AxisSteps {
    Index stride = 1;
    Index back = 0;
    Index forth = 0;
};

/// Whether steps along the axes lead over exactly `distance` elements. Axes have the largest stride first and are
/// nested: all steps along the inner ones together stay below one step of the outer one. So along each axis two numbers
/// of steps can be right: as many as go into the distance, which leaves a rest to be made up forwards, and one more,
/// which leaves one to be made up backwards.
inline bool leads_over(std::span<const AxisSteps> axes, Index distance) {
    if (axes.empty()) return distance == 0;
    const auto [stride, back, forth] = axes.front();
    const Index rest = (distance % stride + stride) % stride;
    const Index fewer = (distance - rest) / stride;
    for (const Index steps : {fewer, fewer + 1}) {
        if (steps < -back || steps > forth) continue;
        if (leads_over(axes.subspan(1), distance - steps * stride)) return true;
    }
    return false;
}

/// Whether two views have an element in common. Exact where they have the same strides; otherwise true if they lie in
/// the same stretch of memory.
inline bool overlap(const Extent& a, const Extent& b) {
    if (a.end <= b.begin || b.end <= a.begin) return false;
    const Extent& low = a.begin < b.begin ? a : b;
    const Extent& high = a.begin < b.begin ? b : a;
    const auto bytes = static_cast<Index>(high.begin - low.begin);
    if (low.element_bytes != high.element_bytes || bytes % low.element_bytes != 0) return true;
    std::vector<AxisSteps> steps;
    std::array<Extent::Axis, 3> larger{};
    for (std::size_t i = 0; i < 3; ++i) {
        const Extent::Axis& of_low = low.axes[i];
        const Extent::Axis& of_high = high.axes[i];
        if (of_low.size > 1 && of_high.size > 1 && of_low.stride != of_high.stride) return true;
        larger[i] = {std::max(of_low.size, of_high.size), of_low.size > 1 ? of_low.stride : of_high.stride};
        if (larger[i].size > 1) steps.push_back({larger[i].stride, of_high.size - 1, of_low.size - 1});
    }
    if (!is_nested(stepping(larger))) return true;
    std::sort(steps.begin(), steps.end(), [](const AxisSteps& x, const AxisSteps& y) { return x.stride > y.stride; });
    // From the lowest element of `low` up to some of its elements, then down within `high` to its lowest.
    return leads_over(steps, bytes / low.element_bytes);
}

/// Throws Error if a view that is written overlaps one of another task.
inline void check_apart(std::vector<Extent> views) {
    std::sort(views.begin(), views.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (std::size_t i = 0; i < views.size(); ++i) {
        for (std::size_t j = i + 1; j < views.size() && views[j].begin < views[i].end; ++j) {
            if (views[i].task == views[j].task || !(views[i].is_written || views[j].is_written)) continue;
            if (!overlap(views[i], views[j])) continue;
            refuse("overlap", std::string(views[i].name) + " with " + views[j].name,
                   "must not be: one call works on both at the same time");
        }
    }
}

/// Whether element by element `out` is where `in` is.
template <class T>
bool same_place(const KVView<const T>& in, const KVView<T>& out) {
    return in.data == out.data && (in.heads == 1 || in.head_stride == out.head_stride) &&
           in.token_stride == out.token_stride && in.dim_stride == out.dim_stride;
}

/// Throws Error unless `out` may be written while `in` is read: apart, or in the same place.
inline void check_in_and_out(const Extent& in, const Extent& out, bool same_place) {
    if (!same_place && overlap(in, out)) {
        refuse("overlap", "in with out", "must not be, unless both begin at the same element with the same strides");
    }
}

/// Throws Error unless the pages have room for the tokens. The table's content is the engine's business.
template <class T>
void check_pages(const char* name, const PagedKVView<T>& view) {
    check_shape(name, view.data, view.heads, view.tokens, view.head_dim);
    require_named(view.block_table != nullptr, "block_table", name, 0, "must not be null");
    const auto table = reinterpret_cast<std::uintptr_t>(view.block_table);
    require_named(table % sizeof(std::int32_t) == 0, "address of the block_table", name, static_cast<Index>(table),
                  "must be a multiple of 4");
    const Index page = view.page_tokens;
    require_named(page >= 1 && page <= 1 << 20 && (page & (page - 1)) == 0, "page_tokens", name, page,
                  "must be a power of two up to 2^20");
    require_named(view.table_pages >= 0 && view.table_pages <= std::numeric_limits<std::int32_t>::max(), "table_pages",
                  name, view.table_pages, "must be 0 to 2^31 - 1");
    require_named(view.tokens <= view.table_pages * page, "tokens", name, view.tokens,
                  "must not be above the room in its pages, " + std::to_string(view.table_pages * page));
    // Within a page as in a view; and pages must not reach into each other.
    const Extent extent = checked_extent(name, KVView<T>(view.data, view.heads, page, view.head_dim, view.head_stride,
                                                         view.token_stride, view.dim_stride));
    const auto span = static_cast<Index>(extent.end - extent.begin) / extent.element_bytes;
    require_named(std::abs(view.page_stride) >= span || view.table_pages <= 1, "page_stride", name, view.page_stride,
                  "must step over a page, which reaches over " + std::to_string(span) + " elements");
}

}  // namespace freqkv::cuda::detail
