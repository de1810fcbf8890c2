// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/detail/lanes/hadamard.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

// Rows of Packed elements as rows of float, and back.
namespace freqkv::detail::inline FREQKV_ISA {

// The level of each code as a number, for a look-up by register.
template <int Bits>
inline constexpr std::array<float, 16> packed_level_floats = [] {
    std::array<float, 16> levels{};
    for (std::size_t i = 0; i < levels.size(); ++i) levels[i] = packed_levels<Bits>[i];
    return levels;
}();

inline float to_float(Half half) {
#if defined(__F16C__)
    return _cvtsh_ss(half.bits);
#else
    return static_cast<float>(half);
#endif
}

using LevelBytes [[gnu::vector_size(16)]] = std::int8_t;
using CodeBytes [[gnu::vector_size(16)]] = std::uint8_t;
using CodeWords [[gnu::vector_size(16)]] = std::uint64_t;
using LaneBytes [[gnu::vector_size(register_bytes / 4)]] = std::int8_t;  // one for each float of a register

// The levels of elements [i, i + 16) of a group.
template <int Bits>
FREQKV_INLINE LevelBytes load_levels(const Packed<Bits>& group, Index i) {
    if constexpr (Bits == 8) {
        return load_bits<LevelBytes>(group.codes.data() + i);
    } else {
        CodeBytes codes;
        if constexpr (Bits == 4) {
            codes = load_bits<CodeBytes>(group.codes.data());
            codes = i == 0 ? codes & 15 : codes >> 4;
        } else {
            const auto word = load_bits<std::uint64_t>(group.codes.data()) >> static_cast<unsigned>(i / 4);
            codes = reinterpret_cast<CodeBytes>(CodeWords{word, word >> 2U}) & 3;
        }
#if defined(__AVX__)
        const __m128i levels = load_bits<__m128i>(packed_levels<Bits>.data());
        return reinterpret_cast<LevelBytes>(_mm_shuffle_epi8(levels, reinterpret_cast<__m128i>(codes)));
#else
        LevelBytes levels{};
        for (int j = 0; j < 16; ++j) levels[j] = packed_levels<Bits>[codes[j]];
        return levels;
#endif
    }
}

// lane_count<float> of some levels, from the i-th on, a multiple of that. (GCC 12 converts bytes one by one where it is
// left to it.)
FREQKV_INLINE Lanes<float> to_floats(const LevelBytes& levels, [[maybe_unused]] Index i) {
#if defined(__AVX2__) && defined(__FMA__)  // together in the name of the instructions
    const auto bytes = reinterpret_cast<__m128i>(levels);
#if defined(__AVX512F__)
    // By a mask of all, for GCC 12 warns of its own header.
    const auto words = reinterpret_cast<IntLanes<float>>(_mm512_maskz_cvtepi8_epi32(0xffff, bytes));
#else
    const auto words =
        reinterpret_cast<IntLanes<float>>(_mm256_cvtepi8_epi32(i == 0 ? bytes : _mm_srli_si128(bytes, 8)));
#endif
    return __builtin_convertvector(words, Lanes<float>);
#else
    LaneBytes some;
    std::memcpy(&some, reinterpret_cast<const char*>(&levels) + i, sizeof some);
    return __builtin_convertvector(__builtin_convertvector(some, IntLanes<float>), Lanes<float>);
#endif
}

// lane_count<float> levels of a group from element i on, a multiple of that.
template <int Bits>
FREQKV_INLINE Lanes<float> load_level_lanes(const Packed<Bits>& group, Index i) {
#if defined(__AVX512F__)
    if constexpr (Bits < 8) {
        // Of an index the instruction reads four bits, so codes need not be cut out of their bytes.
        __m128i bytes;
        if constexpr (Bits == 4) {
            bytes = load_bits<__m128i>(group.codes.data());
        } else {
            const auto word = load_bits<std::uint64_t>(group.codes.data());
            bytes = reinterpret_cast<__m128i>(CodeWords{word, word >> 2U});
        }
        auto codes = reinterpret_cast<WordLanes>(_mm512_maskz_cvtepu8_epi32(0xffff, bytes));
        if (i != 0) codes = codes >> 4U;
        const auto levels = load_bits<__m512>(packed_level_floats<Bits>.data());
        return reinterpret_cast<Lanes<float>>(
            _mm512_maskz_permutexvar_ps(0xffff, reinterpret_cast<__m512i>(codes), levels));
    }
#endif
    return to_floats(load_levels(group, i / 16 * 16), i % 16);
}

// The scales of `Count` groups that are `stride` apart.
template <Index Count, int Bits>
FREQKV_INLINE void load_scales(const Packed<Bits>* first, Index stride, float* to) {
#if defined(__F16C__) && defined(__x86_64__)
    if constexpr (Count == 4 || Count == 2) {
        std::uint64_t halves = 0;
        unrolled<Count>([&](auto i) FREQKV_INLINE_LAMBDA {
            halves |= std::uint64_t{first[i * stride].scale.bits} << (16U * static_cast<unsigned>(i));
        });
        const __m128 scales = _mm_cvtph_ps(_mm_cvtsi64_si128(static_cast<long long>(halves)));
        std::memcpy(to, &scales, Count * sizeof(float));
        // From memory, a product takes them for all lanes by itself; from a register it takes a shuffle for each.
        asm("" : "+m"(*reinterpret_cast<float(*)[Count]>(to)));
        return;
    }
#endif
    for (Index i = 0; i < Count; ++i) to[i] = to_float(first[i * stride].scale);
}

// lane_count<float> elements of a packed row from element d on, a multiple of that; still transformed.
template <int Bits>
FREQKV_INLINE Lanes<float> load_packed(const Packed<Bits>* row, Index d) {
    constexpr Index group = Packed<Bits>::group;
    const Packed<Bits>& of = row[d / group];
    return load_level_lanes(of, d % group) * to_float(of.scale);
}

// lane_count<C> elements of a row of any stored type from element d on; of a packed one, d is a multiple of that.
template <class C, class T>
FREQKV_INLINE Lanes<C> load_lanes_at(const T* row, Index d) {
    if constexpr (is_packed<T>) {
        return load_packed(row, d);
    } else {
        return load_lanes<C>(row + d);
    }
}

// The first `count` of them; the others are 0, or of a packed row anything finite.
template <class C, class T>
FREQKV_INLINE Lanes<C> load_part_at(const T* row, Index d, Index count) {
    if constexpr (is_packed<T>) {
        return load_packed(row, d);
    } else {
        return load_part<C>(row + d, count);
    }
}

// `count` elements of a packed row, still transformed.
template <int Bits>
[[gnu::flatten]] void unpack_transformed(const Packed<Bits>* row, Index count, float* to) {
    Index d = 0;
    for (; d + lane_count<float> <= count; d += lane_count<float>) store_lanes<float>(to + d, load_packed(row, d));
    if (d < count) {
        const Lanes<float> rest = load_packed(row, d);
        for (Index i = 0; d + i < count; ++i) to[d + i] = rest[i];
    }
}

// Rows [first, first + count) of dense ones as they are computed with: themselves, or converted to `scratch` [count,
// columns]. Packed ones are transformed.
template <class T, class C>
const C* rows_as_arithmetic(const MatrixView<const T>& rows, Index first, Index count, C* scratch) {
    return as_arithmetic(rows.row(first), count * rows.columns, scratch);
}
template <class T>
const float* rows_as_arithmetic(const PackedView<const T>& rows, Index first, Index count, float* scratch) {
    float* to = scratch;
    rows.for_each_part(first, first + count, [&]<class U>(const MatrixView<U>& part, Index) {
        for (Index i = 0; i < part.rows; ++i, to += part.columns) {
            if constexpr (is_packed<std::remove_const_t<U>>) {
                unpack_transformed(part.row(i), part.columns, to);
            } else {
                convert_row(part.row(i), part.columns, to);
            }
        }
    });
    return scratch;
}

template <int Bits>
void unpack_row(const Packed<Bits>* row, Index count, float* to) {
    unpack_transformed(row, count, to);
    hadamard(to, count);
}

// Finds the scale of a group: x is 32 numbers, of which `count` mean something.
template <int Bits>
class GroupPacker {
    static constexpr Index group = Packed<Bits>::group;
    static constexpr int half = 1 << (Bits - 1);  // of 4 and 2 bits, as many levels are positive

public:
    GroupPacker(const float* x, Index count) : x_(x), count_(count) {
        float largest = 0;
        for (Index i = 0; i < group; ++i) largest = std::max(largest, std::abs(x[i]));
        if (largest == 0) return;
        if constexpr (Bits == 8) {
            try_scale(largest / 127);
        } else {
            // The largest number becomes one of the levels, or the largest level and loses some of itself.
            for (int i = 0; i < half; ++i) try_scale(largest / level(half + i));
            for (const float part : {0.9F, 0.8F, 0.7F, 0.6F, 0.5F}) try_scale(part * largest / level(2 * half - 1));
            if (error_ > 0) try_scale(scale_of_least_error());
        }
    }

    void write(Packed<Bits>& to) const {
        to.scale = scale_;
        to.codes = {};
        const float by = to_float(scale_);
        for (std::size_t i = 0; i < group; ++i) {
            const float x = by == 0 ? 0 : x_[i] / by;
            if constexpr (Bits == 8) {
                to.codes[i] =
                    static_cast<std::uint8_t>(static_cast<int>(std::clamp(x, -127.0F, 127.0F) + 127.5F) - 127);
            } else {
                unsigned code = 0;
                for (int c = 1; c < 2 * half; ++c) code += x > threshold(c) ? 1 : 0;
                constexpr std::size_t bytes = group * Bits / 8;
                to.codes[i % bytes] = static_cast<std::uint8_t>(to.codes[i % bytes] | code << (i / bytes * Bits));
            }
        }
    }

private:
    static constexpr float level(int code) { return packed_levels<Bits>[static_cast<std::size_t>(code)]; }
    // Above it a number is nearer to the level of that code than to the one before.
    static constexpr float threshold(int code) { return (level(code - 1) + level(code)) / 2; }

    // The levels next to x.
    FREQKV_INLINE static Lanes<float> nearest(Lanes<float> x) {
        if constexpr (Bits == 8) {
            const Lanes<float> bounded = max_lanes<float>(x, Lanes<float>{} - 127);
            const Lanes<float> rounded = (bounded > 127 ? Lanes<float>{} + 127 : bounded) + 127.5F;
            return __builtin_convertvector(__builtin_convertvector(rounded, IntLanes<float>) - 127, Lanes<float>);
        } else {
            Lanes<float> y = Lanes<float>{} + level(0);
            unrolled<2 * half - 1>([&](auto c) {
                constexpr int code = static_cast<int>(c.value) + 1;
                y += x > threshold(code) ? Lanes<float>{} + (level(code) - level(code - 1)) : Lanes<float>{};
            });
            return y;
        }
    }

    // f(x, the levels of x) for all registers of what means something.
    template <class F>
    FREQKV_INLINE void with_levels(float by, const F& f) const {
        for (Index i = 0; i < group; i += lane_count<float>) {
            const Lanes<float> x = load_lanes<float>(x_ + i);
            const Lanes<float> levels = nearest(x / by);
            if (i + lane_count<float> <= count_) {
                f(x, levels);
            } else if (i < count_) {
                Lanes<float> some{};
                for (Index j = 0; i + j < count_; ++j) some[j] = levels[j];
                f(x, some);
            }
        }
    }

    [[gnu::flatten]] void try_scale(float wanted) {
        const Half scale(std::min(wanted, 65504.0F));
        const float by = to_float(scale);
        if (by == 0) return;
        Lanes<float> errors{};
        with_levels(by, [&](Lanes<float> x, Lanes<float> levels) FREQKV_INLINE_LAMBDA {
            const Lanes<float> difference = x - by * levels;
            errors += difference * difference;
        });
        const float error = sum(errors);
        if (!(error < error_)) return;
        error_ = error;
        scale_ = scale;
    }

    // With the levels of the scale that was found.
    [[gnu::flatten]] float scale_of_least_error() const {
        Lanes<float> products{}, squares{};
        with_levels(to_float(scale_), [&](Lanes<float> x, Lanes<float> levels) FREQKV_INLINE_LAMBDA {
            products += x * levels;
            squares += levels * levels;
        });
        return sum(products) / sum(squares);
    }

    static float sum(Lanes<float> lanes) {
        float all = 0;
        for (Index i = 0; i < lane_count<float>; ++i) all += lanes[i];
        return all;
    }

    const float* x_;
    Index count_;
    float error_ = std::numeric_limits<float>::infinity();
    Half scale_{};
};

// Packs a row that is transformed already.
template <int Bits>
void pack_transformed(const float* row, Index count, Packed<Bits>* to) {
    constexpr Index group = Packed<Bits>::group;
    for (Index d = 0; d < count; d += group) {
        if (d + group <= count) {
            GroupPacker<Bits>(row + d, group).write(to[d / group]);
        } else {
            float rest[group] = {};
            std::copy(row + d, row + count, rest);
            GroupPacker<Bits>(rest, count - d).write(to[d / group]);
        }
    }
}

// Packs a row; `row` is changed.
template <int Bits>
void pack_row(float* row, Index count, Packed<Bits>* to) {
    hadamard(row, count);
    pack_transformed(row, count, to);
}

}  // namespace freqkv::detail::inline FREQKV_ISA
