// SPDX-License-Identifier: MIT
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "llama/model/products/byte_blocks.hpp"
#include "llama/model/products/kernels.hpp"

// The kernels of ByteKernels for any Instructions. Unnamed, as byte_blocks.hpp.
namespace llama::detail {
namespace {

/// Rounds 32 activations; scale, and the sums of both halves of them. What is not finite makes the scale so.
inline void round_32(const float* x, std::int8_t* bytes, float& scale, float& sum, float* half_sums) {
    __m256 parts[4];
    // Floats without a sign are in the order of their bits, and NaN is the largest.
    __m256i largest = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i) {
        parts[i] = _mm256_loadu_ps(x + 8 * i);
        largest =
            _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(parts[i]), _mm256_set1_epi32(0x7fffffff)));
    }
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    scale = _mm_cvtss_f32(_mm_castsi128_ps(four)) / 127;
    // Where the inverse would overflow, all numbers are as good as zero.
    const __m256 factor = _mm256_set1_ps(scale > 1e-38F ? 1 / scale : 0);
    __m256i integers[4];
    for (int i = 0; i < 4; ++i) integers[i] = _mm256_cvtps_epi32(_mm256_mul_ps(parts[i], factor));
    // Packing works within halves of a register, so the 4 bytes of each quarter come apart.
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(integers[0], integers[1]), _mm256_packs_epi32(integers[2], integers[3]));
    store_32_bytes(bytes, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    for (int i = 0; i < 2; ++i) {
        const __m256i pairs = _mm256_add_epi32(integers[2 * i], integers[2 * i + 1]);
        __m128i total = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
        total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0x4e));
        total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0xb1));
        half_sums[i] = scale * static_cast<float>(_mm_cvtsi128_si32(total));
    }
    sum = half_sums[0] + half_sums[1];
}

inline void round_to_bytes(const float* x, Index columns, const ByteActivations& to) {
    for (Index i = 0; i < columns / 32; ++i) {
        round_32(x + 32 * i, to.bytes + 32 * i, to.scales[i], to.sums[i], to.half_sums + 2 * i);
    }
}

inline float sum_of(__m256 x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

inline constexpr Index prefetch_distance = 2048;  // bytes; rows follow each other

inline constexpr Index run = 256;  ///< numbers that are unpacked at once: a block, or 8 of them

/// The halves at the same place of 8 blocks.
template <Index block_bytes>
__m256 halves_of_8(const std::byte* first) {
    const auto half = [&](int i) {
        std::int16_t bits = 0;
        std::memcpy(&bits, first + i * block_bytes, sizeof bits);
        return bits;
    };
    return _mm256_cvtph_ps(_mm_setr_epi16(half(0), half(1), half(2), half(3), half(4), half(5), half(6), half(7)));
}

/// Scales of the parts of a run, and minima where the format has no centre; then f(i, numbers 32 i to 32 i + 31) in the
/// order of i.
template <WeightType type, class F>
void unpack_run(const std::byte* packed, float* scales, float* minima, F&& f) {
    using Format = ByteBlock<type>;
    if constexpr (format_of(type).block == run) {
        Format::unpack(packed, scales, minima, f);
    } else {
        constexpr Index bytes = format_of(type).bytes;
        _mm256_store_ps(scales, halves_of_8<bytes>(packed));
        if constexpr (Format::centre == none) {
            _mm256_store_ps(minima, _mm256_sub_ps(_mm256_setzero_ps(), halves_of_8<bytes>(packed + 2)));
        }
        for (Index i = 0; i < 8; ++i) f(i, Format::bytes(packed + i * bytes));
    }
}

/// The product of one row with one token.
template <class Instructions, WeightType type>
float multiply_row(const std::byte* row, Index columns, const ByteActivations& x) {
    using Format = ByteBlock<type>;
    constexpr bool has_minima = !Instructions::template takes_sign<Format>;
    constexpr Index parts = run / Format::part;
    constexpr Index bytes = format_of(type).bytes;
    constexpr Index run_bytes = run / format_of(type).block * bytes;
    const float* const sums = Format::part == 32 ? x.sums : x.half_sums;
    __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    __m256 minimum = _mm256_setzero_ps();
    Index first = 0;
    for (; first + run <= columns; first += run, row += run_bytes) {
        for (Index i = 0; i < run_bytes; i += 64) {
            _mm_prefetch(reinterpret_cast<const char*>(row + prefetch_distance + i), _MM_HINT_T0);
        }
        alignas(32) float scales[parts];
        alignas(32) float minima[parts];
        alignas(32) float factors[parts];
        const auto multiply = [&](Index i, __m256i numbers) {
            __m256 factor;
            if constexpr (Format::part == 32) {
                if (i == 0) {
                    _mm256_store_ps(factors,
                                    _mm256_mul_ps(_mm256_load_ps(scales), _mm256_loadu_ps(x.scales + first / 32)));
                }
                factor = _mm256_broadcast_ss(factors + i);
            } else {
                factor = _mm256_set_m128(_mm_broadcast_ss(scales + 2 * i + 1), _mm_broadcast_ss(scales + 2 * i));
                factor = _mm256_mul_ps(factor, _mm256_broadcast_ss(x.scales + first / 32 + i));
            }
            const __m256i integers = Instructions::template dot<Format>(numbers, x.bytes + first + 32 * i);
            total[i % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers), factor, total[i % 2]);
        };
        unpack_run<type>(row, scales, minima, multiply);
        if constexpr (has_minima) {
            for (Index i = 0; i < parts; i += 8) {
                const __m256 m = _mm256_load_ps((Format::centre == none ? minima : scales) + i);
                minimum = _mm256_fmadd_ps(m, _mm256_loadu_ps(sums + first / Format::part + i), minimum);
            }
        }
    }
    float rest = 0;
    if constexpr (format_of(type).block == 32) {
        for (; first < columns; first += 32, row += bytes) {
            const __m256i integers = Instructions::template dot<Format>(Format::bytes(row), x.bytes + first);
            const __m256 factor = _mm256_set1_ps(half_at(row) * x.scales[first / 32]);
            total[0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers), factor, total[0]);
            if constexpr (has_minima) {
                rest += (Format::centre == none ? -half_at(row + 2) : half_at(row)) * sums[first / 32];
            }
        }
    }
    const float result = sum_of(_mm256_add_ps(total[0], total[1]));
    if constexpr (!has_minima) return result;
    return result - (Format::centre == none ? 1 : Format::centre) * (sum_of(minimum) + rest);
}

template <class Instructions>
void multiply_byte_rows(const WeightRows& w, const ByteActivations& x, float* out) {
    with_byte_blocks(w.type, [&]<WeightType type>() {
        for (Index r = 0; r < w.rows; ++r) {
            out[r] = multiply_row<Instructions, type>(w.data + r * w.row_bytes, w.columns, x);
        }
    });
}

// --- Many tokens: a lane for each of some rows, so that a token's bytes are broadcast to all of them.

/// At most columns_at_once columns of at most largest_tile_rows rows.
template <int lanes>
struct BytePanels {
    static constexpr Index groups = largest_tile_rows / lanes;
    static constexpr Index words = columns_at_once / 4;
    static constexpr Index parts = columns_at_once / 16;

    alignas(64) std::uint32_t bytes[groups][words][lanes];
    alignas(64) float scales[groups][parts][lanes];
    alignas(64) float minima[groups][parts][lanes];

    /// Columns [first, first + columns) of the rows; rows that there are not are zeros.
    template <WeightType type, bool with_sign>
    void pack(const WeightRows& w, Index first, Index columns) {
        using Format = ByteBlock<type>;
        constexpr Index block = format_of(type).block;
        const auto put = [&](Index row, Index column, const std::uint32_t* some_words, Index count,
                             const float* some_scales, const float* some_minima) {
            const Index group = row / lanes;
            const Index lane = row % lanes;
            for (Index k = 0; k < count / 4; ++k) bytes[group][column / 4 + k][lane] = some_words[k];
            for (Index k = 0; k < count / Format::part; ++k) {
                scales[group][column / Format::part + k][lane] = some_scales[k];
                minima[group][column / Format::part + k][lane] =
                    Format::centre == none ? some_minima[k] : Format::centre * some_scales[k];
            }
        };
        for (Index r = 0; r < padded(w.rows, lanes); ++r) {
            const std::byte* packed = w.data + r * w.row_bytes + first / block * format_of(type).bytes;
            for (Index i = 0; i < columns; i += block, packed += format_of(type).bytes) {
                alignas(32) std::uint32_t some_words[block / 4] = {};
                alignas(32) float some_scales[block / Format::part] = {};
                alignas(32) float some_minima[block / Format::part] = {};
                const auto store = [&](Index part, __m256i numbers) {
                    if (with_sign) numbers = _mm256_xor_si256(numbers, _mm256_set1_epi8(-128));
                    store_32_bytes(some_words + 8 * part, numbers);
                };
                if (r < w.rows) {
                    if constexpr (block == run) {
                        Format::unpack(packed, some_scales, some_minima, store);
                    } else {
                        store(0, Format::bytes(packed));
                        some_scales[0] = half_at(packed);
                        if (Format::centre == none) some_minima[0] = -half_at(packed + 2);
                    }
                }
                put(r, i, some_words, block, some_scales, some_minima);
            }
        }
    }
};

/// Of tokens t, t + 1, ... and one group of panels: sums[t][lane] += the product of `columns` columns.
template <class Instructions, class Format, int tokens, int lanes>
void multiply_panel(const BytePanels<lanes>& w, Index group, Index columns, const ByteActivations& x, Index x_columns,
                    float* out, Index stride, bool add) {
    using Integers = typename Instructions::Integers;
    using Floats = typename Instructions::Floats;
    constexpr bool has_minima = !Instructions::template takes_sign<Format>;
    constexpr Index words = Format::part / 4;
    constexpr Index steps = Instructions::template steps<Format>;
    Floats total[tokens];
    for (int t = 0; t < tokens; ++t) total[t] = add ? Instructions::load(out + t * stride) : Floats{};
    for (Index part = 0; part < columns / Format::part; ++part) {
        Integers integers[tokens] = {};
        for (Index word = 0; word < words; word += steps) {
            Integers some[tokens] = {};
            for (Index s = word; s < word + steps; ++s) {
                const Integers weights = Instructions::load(w.bytes[group][part * words + s]);
                for (int t = 0; t < tokens; ++t) {
                    std::int32_t four = 0;
                    std::memcpy(&four, x.bytes + t * x_columns + part * Format::part + 4 * s, sizeof four);
                    some[t] = Instructions::template add<Format>(some[t], weights, four);
                }
            }
            for (int t = 0; t < tokens; ++t) integers[t] = Instructions::sum(integers[t], some[t]);
        }
        const Floats scales = Instructions::load(w.scales[group][part]);
        for (int t = 0; t < tokens; ++t) {
            const float scale = x.scales[(t * x_columns + part * Format::part) / 32];
            total[t] += Instructions::to_floats(integers[t]) * scales * scale;
        }
        if constexpr (has_minima) {
            const Floats minima = Instructions::load(w.minima[group][part]);
            const float* const sums = Format::part == 32 ? x.sums : x.half_sums;
            for (int t = 0; t < tokens; ++t) total[t] -= minima * sums[t * (x_columns / Format::part) + part];
        }
    }
    for (int t = 0; t < tokens; ++t) Instructions::store(out + t * stride, total[t]);
}

template <class Instructions>
void multiply_byte_tile(const WeightRows& w, const ByteActivations& x, Index tokens, float* out, Index stride,
                        std::byte* scratch) {
    constexpr int lanes = Instructions::lanes;
    constexpr int at_once = Instructions::tokens;
    static_assert(sizeof(BytePanels<lanes>) <= tile_scratch);
    auto& panels = *reinterpret_cast<BytePanels<lanes>*>(scratch);
    with_byte_blocks(w.type, [&]<WeightType type>() {
        using Format = ByteBlock<type>;
        for (Index first = 0; first < w.columns; first += columns_at_once) {
            const Index rest = w.columns - first;
            const Index columns = rest < columns_at_once ? rest : columns_at_once;
            panels.template pack<type, Instructions::template takes_sign<Format>>(w, first, columns);
            for (Index group = 0; group * lanes < w.rows; ++group) {
                const Index rows = w.rows - group * lanes < lanes ? w.rows - group * lanes : lanes;
                const auto multiply = [&]<int count>(Index t) {
                    const Index at = t * w.columns + first;
                    const ByteActivations some{x.bytes + at, x.scales + at / 32, x.sums + at / 32,
                                               x.half_sums + at / 16};
                    float* const to = out + t * stride + group * lanes;
                    if (rows == lanes) {
                        return multiply_panel<Instructions, Format, count>(panels, group, columns, some, w.columns, to,
                                                                           stride, first > 0);
                    }
                    alignas(64) float part[count][lanes] = {};
                    const auto size = static_cast<std::size_t>(rows) * sizeof(float);
                    if (first > 0) {
                        for (int i = 0; i < count; ++i) std::memcpy(part[i], to + i * stride, size);
                    }
                    multiply_panel<Instructions, Format, count>(panels, group, columns, some, w.columns, part[0], lanes,
                                                                first > 0);
                    for (int i = 0; i < count; ++i) std::memcpy(to + i * stride, part[i], size);
                };
                Index t = 0;
                for (; t + at_once <= tokens; t += at_once) multiply.template operator()<at_once>(t);
                for (; t < tokens; ++t) multiply.template operator()<1>(t);
            }
        }
    });
}

template <class Instructions>
constexpr ByteKernels byte_kernels_of(const char* name) {
    return {name, round_to_bytes, multiply_byte_rows<Instructions>, multiply_byte_tile<Instructions>};
}

}  // namespace
}  // namespace llama::detail
