// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/half_element.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"

// Groups of Packed elements by one thread: the levels and the search for a scale that the host's GroupPacker has, whose
// sums are in another order.
namespace freqkv::cuda::detail {

/// Sizes of a group of Packed<Bits>.
template <int Bits>
struct PackedGroup {
    static constexpr int elements = static_cast<int>(Packed<Bits>::group);
    static constexpr int bytes = elements * Bits / 8;  ///< of its codes: byte i has those of elements i, i + bytes, ...
    static constexpr int positive = 1 << (Bits - 1);   ///< levels above 0, as many as below where bits are few
    static constexpr unsigned mask = (1U << Bits) - 1;

    static consteval float level(int code) {
        return freqkv::detail::packed_levels<Bits>[static_cast<std::size_t>(code)];
    }
    /// Above it a number is nearer to the level of that code than to the one before.
    static consteval float threshold(int code) { return (level(code - 1) + level(code)) / 2; }
    /// The levels above 0, a byte each.
    static consteval std::uint64_t magnitudes() {
        std::uint64_t bytes_of_levels = 0;
        for (int i = 0; i < positive; ++i) {
            bytes_of_levels |= static_cast<std::uint64_t>(level(positive + i)) << (8 * i);
        }
        return bytes_of_levels;
    }
};

/// The level of a code. Those of few bits are looked up in a register: they are alike above and below 0.
template <int Bits>
FREQKV_INLINE float level_of(unsigned code) {
    if constexpr (Bits == 8) {
        return static_cast<float>(static_cast<std::int8_t>(code));
    } else {
        constexpr std::uint64_t magnitudes = PackedGroup<Bits>::magnitudes();
        constexpr unsigned positive = PackedGroup<Bits>::positive;
        const bool above = (code & positive) != 0;
        const unsigned i = (above ? code : ~code) & (positive - 1);
        const auto magnitude = static_cast<float>(static_cast<unsigned>(magnitudes >> (8 * i)) & 255U);
        return above ? magnitude : -magnitude;
    }
}

/// The code of the level next to x.
template <int Bits>
FREQKV_INLINE unsigned nearest_code(float x) {
    if constexpr (Bits == 8) {
        const float bounded = fminf(fmaxf(x, -127.0F), 127.0F);
        return static_cast<unsigned>(static_cast<int>(bounded + 127.5F) - 127) & 255U;
    } else {
        unsigned code = 0;
        freqkv::detail::unrolled<(1 << Bits) - 1>([&](auto c) FREQKV_INLINE_LAMBDA {
            constexpr float threshold = PackedGroup<Bits>::threshold(static_cast<int>(decltype(c)::value) + 1);
            code += x > threshold ? 1U : 0U;
        });
        return code;
    }
}

/// Finds the scale of a group of numbers, which a thread holds; `count` of them mean something, the others are 0.
template <int Bits>
class ScaleSearch {
    using Group = PackedGroup<Bits>;

public:
    FREQKV_INLINE ScaleSearch(const float (&x)[Group::elements], int count) : x_(x), count_(count) {
        float largest = 0;
        each([&](int i) FREQKV_INLINE_LAMBDA { largest = fmaxf(largest, fabsf(x_[i])); });
        if (largest == 0) return;
        if constexpr (Bits == 8) {
            try_scale(largest / 127);
        } else {
            // The largest number becomes one of the levels, or the largest level and loses up to a half of itself.
            constexpr int parts = 5;
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
            for (int i = 0; i < Group::positive + parts; ++i) {
                const int lost = i - Group::positive;
                const float part = lost == 0 ? 0.9F : lost == 1 ? 0.8F : lost == 2 ? 0.7F : lost == 3 ? 0.6F : 0.5F;
                try_scale(lost < 0 ? largest / level_of<Bits>(static_cast<unsigned>(Group::positive + i))
                                   : part * largest / 127);
            }
            if (error_ > 0) try_scale(scale_of_least_error());
        }
    }

    FREQKV_INLINE Half scale() const { return scale_; }

private:
    template <class F>
    FREQKV_INLINE static void each(const F& f) {
        freqkv::detail::unrolled<Group::elements>([&](auto i) FREQKV_INLINE_LAMBDA { f(static_cast<int>(i)); });
    }

    // f(x, the level of x) for each number that means something.
    template <class F>
    FREQKV_INLINE void with_levels(float by, const F& f) const {
        each([&](int i) FREQKV_INLINE_LAMBDA {
            if (i < count_) f(x_[i], level_of<Bits>(nearest_code<Bits>(x_[i] / by)));
        });
    }

    FREQKV_INLINE void try_scale(float wanted) {
        const Half scale = from_float<Half>(fminf(wanted, 65504.0F));
        const float by = to_float(scale);
        if (by == 0) return;
        float error = 0;
        with_levels(by, [&](float x, float level) FREQKV_INLINE_LAMBDA {
            const float difference = x - by * level;
            error += difference * difference;
        });
        if (!(error < error_)) return;
        error_ = error;
        scale_ = scale;
    }

    // With the levels of the scale that was found.
    FREQKV_INLINE float scale_of_least_error() const {
        float products = 0;
        float squares = 0;
        with_levels(to_float(scale_), [&](float x, float level) FREQKV_INLINE_LAMBDA {
            products += x * level;
            squares += level * level;
        });
        return products / squares;
    }

    const float (&x_)[Group::elements];
    int count_;
    float error_ = INFINITY;
    Half scale_{};
};

/// Packs a group of numbers, of which `count` mean something and the others are 0. `codes` has PackedGroup::bytes and
/// is aligned to 8.
template <int Bits>
FREQKV_INLINE void pack_group(const float (&x)[PackedGroup<Bits>::elements], int count, std::uint8_t* codes,
                              Half& scale) {
    using Group = PackedGroup<Bits>;
    scale = ScaleSearch<Bits>(x, count).scale();
    const float by = to_float(scale);
    freqkv::detail::unrolled<Group::bytes / 8>([&](auto word) FREQKV_INLINE_LAMBDA {
        Elements<std::uint8_t, 8> eight;
        freqkv::detail::unrolled<8>([&](auto j) FREQKV_INLINE_LAMBDA {
            constexpr int i = static_cast<int>(8 * decltype(word)::value + decltype(j)::value);
            unsigned byte = 0;
            freqkv::detail::unrolled<8 / Bits>([&](auto k) FREQKV_INLINE_LAMBDA {
                constexpr int of = static_cast<int>(decltype(k)::value);
                byte |= nearest_code<Bits>(by == 0 ? 0.0F : x[i + of * Group::bytes] / by) << (of * Bits);
            });
            eight.values[j] = static_cast<std::uint8_t>(byte);
        });
        store_elements(codes + 8 * word, eight);
    });
}

/// N elements of a packed row from element d on, a multiple of N <= 8; still transformed.
template <int Bits, int N>
FREQKV_INLINE Elements<float, N> unpack_elements(const std::uint8_t* codes, const Half* scales, int d) {
    using Group = PackedGroup<Bits>;
    const int group = d / Group::elements;
    const int i = d % Group::elements;
    const auto some = load_elements<N>(codes + group * Group::bytes + i % Group::bytes);
    const auto shift = static_cast<unsigned>(i / Group::bytes * Bits);
    const float scale = to_float(scales[group]);
    Elements<float, N> elements;
    freqkv::detail::unrolled<N>([&](auto j) FREQKV_INLINE_LAMBDA {
        elements.values[j] = scale * level_of<Bits>(some.values[j] >> shift & Group::mask);
    });
    return elements;
}

}  // namespace freqkv::cuda::detail
