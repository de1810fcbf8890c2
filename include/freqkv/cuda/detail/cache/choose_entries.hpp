// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// Which entries of a span score highest, and what becomes of the others: what freqkv::SelectHighest and the hybrid
// codecs choose on the host, by one block for each head.
namespace freqkv::cuda::detail {

/// The block counts in so many parts.
inline constexpr int choice_parts = 256;

/// A span of all heads of a list, of which the `exact` entries are chosen that score highest; the rest() of them is
/// transformed to rows(), each of which then stands in the place of one of the entries that it was made of.
struct Choice {
    int heads = 0;
    int length = 0;                   ///< of the span
    int keep = 0;                     ///< entries that remain of it
    int exact = 0;                    ///< of these, chosen ones
    float* scores = nullptr;          ///< [heads][length]
    std::int32_t* numbers = nullptr;  ///< [heads][head_numbers()], of which the functions below name the parts

    FREQKV_INLINE int rest() const { return length - exact; }
    FREQKV_INLINE int rows() const { return keep - exact; }
    FREQKV_INLINE Index head_numbers() const {
        return Index{keep} + choice_parts + (rows() > 0 ? Index{rest()} + 2 * Index{rows()} : 0);
    }

    /// What remains, [keep], in order: an exact entry as its index, a row of the transform's result as ~(its place).
    FREQKV_INLINE std::int32_t* items() const { return numbers; }
    FREQKV_INLINE std::int32_t* counts() const { return items() + keep; }  ///< [choice_parts], scratch
    /// The entries that are transformed, [rest()], ascending.
    FREQKV_INLINE std::int32_t* others() const { return counts() + choice_parts; }
    /// Where each row of the result stands, [rows()], and its place among the items.
    FREQKV_INLINE std::int32_t* places() const { return others() + rest(); }
    FREQKV_INLINE std::int32_t* ranks() const { return places() + rows(); }

    /// Of the others, the one in whose place row k stands: in the middle of those it was made of.
    FREQKV_INLINE int middle(int k) const {
        const auto begin = [&](Index row) { return row * rest() / rows(); };
        return static_cast<int>((begin(k) + begin(k + Index{1})) / 2);
    }
    /// Rows that stand in the places of the first `others` of these.
    FREQKV_INLINE int rows_before(int others) const {
        int first = 0;
        for (int end = rows(); first < end;) {
            const int k = first + (end - first) / 2;
            if (middle(k) < others) {
                first = k + 1;
            } else {
                end = k;
            }
        }
        return first;
    }

    /// Of head `head` alone, which the functions above are for.
    FREQKV_INLINE Choice of_head(int head) const {
        Choice one = *this;
        one.scores += Index{head} * length;
        one.numbers += head * head_numbers();
        return one;
    }
};

/// Orders entries by their score, and equal ones by their index: all orders are different. Not-a-numbers count as the
/// lowest score, and the zeros of both signs as one.
FREQKV_INLINE std::uint64_t order_of(float score, int index) {
    std::uint32_t bits = 0xff800000U;  // of minus infinity
    if (score == 0) {
        bits = 0;
    } else if (score == score) {
        std::memcpy(&bits, &score, sizeof(bits));
    }
    constexpr std::uint32_t sign = 0x80000000U;
    const std::uint32_t ordered = (bits & sign) != 0 ? ~bits : bits | sign;
    return std::uint64_t{ordered} << 32 | static_cast<std::uint32_t>(index);
}

/// The order of the `keep`-th of the `count` scores from above, keep >= 1: those from there on are chosen. Found bit by
/// bit, each by counting: O(count) for each of at most 63 bits, whatever the scores are.
template <ThreadBlock Block>
FREQKV_INLINE std::uint64_t least_chosen(const float* scores, int count, int keep, Block block) {
    std::uint64_t least = 0;
    const auto raise = [&](std::uint64_t bit) {
        const std::uint64_t from = least | bit;
        if (block.count(count, [&](int i) { return order_of(scores[i], i) >= from; }) >= keep) least = from;
    };
    for (int bit = 63; bit >= 32; --bit) raise(std::uint64_t{1} << bit);
    for (int bit = 30; bit >= 0; --bit) {
        if (Index{1} << bit < count) raise(std::uint64_t{1} << bit);
    }
    return least;
}

/// Writes all numbers of one head.
template <ThreadBlock Block>
FREQKV_INLINE void choose_entries(const Choice& task, int head, Block block) {
    const Choice choice = task.of_head(head);
    const float* const scores = choice.scores;
    std::int32_t* const items = choice.items();
    std::int32_t* const counts = choice.counts();
    constexpr std::uint64_t none = ~std::uint64_t{0};
    const std::uint64_t least = choice.exact > 0 ? least_chosen(scores, choice.length, choice.exact, block) : none;
    const auto is_chosen = [&](int i) { return order_of(scores[i], i) >= least; };
    const int part = (choice.length + choice_parts - 1) / choice_parts;
    const auto each_of_part = [&](int p, const auto& f) {
        for (int i = p * part; i < choice.length && i < (p + 1) * part; ++i) f(i);
    };
    block.each(choice_parts, [&](int p) {
        int count = 0;
        each_of_part(p, [&](int i) { count += is_chosen(i) ? 1 : 0; });
        counts[p] = count;
    });
    block.each(choice_parts, [&](int p) {
        int chosen = 0;
        for (int before = 0; before < p; ++before) chosen += counts[before];
        each_of_part(p, [&](int i) {
            const int others = i - chosen;  // before it
            if (is_chosen(i)) {
                items[choice.rows() > 0 ? chosen + choice.rows_before(others) : chosen] = i;
                ++chosen;
            } else if (choice.rows() > 0) {
                choice.others()[others] = i;
            }
        });
    });
    block.each(choice.rows(), [&](int k) {
        const int other = choice.middle(k);
        const int place = choice.others()[other];
        const int rank = k + place - other;  // as many exact entries are before it
        choice.places()[k] = place;
        choice.ranks()[k] = rank;
        items[rank] = ~place;
    });
}

}  // namespace freqkv::cuda::detail
