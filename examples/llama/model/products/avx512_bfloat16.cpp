// SPDX-License-Identifier: MIT
#include "llama/model/products/kernels.hpp"

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include "llama/model/products/bfloat16_panels.hpp"

namespace llama::detail {
namespace {

/// out [count, rows] of two groups of rows; `rows` of 32 are stored.
template <int count>
void multiply_pairs(const BFloat16Panels& w, Index group, Index pairs, const std::uint16_t* x, Index x_columns,
                    float* out, Index stride, Index rows, bool add) {
    const __mmask16 masks[2] = {static_cast<__mmask16>(rows >= 16 ? 0xffff : (1 << rows) - 1),
                                static_cast<__mmask16>(rows >= 32  ? 0xffff
                                                       : rows > 16 ? (1 << (rows - 16)) - 1
                                                                   : 0)};
    __m512 total[count][2];
    for (int t = 0; t < count; ++t) {
        for (int v = 0; v < 2; ++v) {
            total[t][v] = add ? _mm512_maskz_loadu_ps(masks[v], out + t * stride + 16 * v) : _mm512_setzero_ps();
        }
    }
    for (Index k = 0; k < pairs; ++k) {
        const __m512bh weights[2] = {(__m512bh)load_512(w.pairs[group][k]), (__m512bh)load_512(w.pairs[group + 1][k])};
        for (int t = 0; t < count; ++t) {
            std::int32_t two = 0;
            std::memcpy(&two, x + t * x_columns + 2 * k, sizeof two);
            for (int v = 0; v < 2; ++v) {
                total[t][v] = _mm512_dpbf16_ps(total[t][v], weights[v], (__m512bh)_mm512_set1_epi32(two));
            }
        }
    }
    for (int t = 0; t < count; ++t) {
        for (int v = 0; v < 2; ++v) _mm512_mask_storeu_ps(out + t * stride + 16 * v, masks[v], total[t][v]);
    }
}

void multiply_tile(const WeightRows& w, const std::uint16_t* x, Index tokens, float* out, Index stride,
                   std::byte* scratch) {
    static_assert(sizeof(BFloat16Panels) <= tile_scratch);
    auto& panels = *reinterpret_cast<BFloat16Panels*>(scratch);
    const Index x_columns = padded(w.columns, bfloat16_columns);
    for (Index first = 0; first < w.columns; first += columns_at_once) {
        const Index columns = w.columns - first < columns_at_once ? w.columns - first : columns_at_once;
        for (Index row = 0; row < w.rows; row += 32) {
            const Index group = row / panel_lanes;
            pack(w, group, first, columns, panels);
            if (row + 16 < w.rows) pack(w, group + 1, first, columns, panels);
            const Index rows = w.rows - row < 32 ? w.rows - row : 32;
            const auto multiply = [&]<int count>(Index t) {
                multiply_pairs<count>(panels, group, (columns + 1) / 2, x + t * x_columns + first, x_columns,
                                      out + t * stride + row, stride, rows, first > 0);
            };
            Index t = 0;
            for (; t + 12 <= tokens; t += 12) multiply.template operator()<12>(t);
            for (; t + 4 <= tokens; t += 4) multiply.template operator()<4>(t);
            for (; t < tokens; ++t) multiply.template operator()<1>(t);
        }
    }
}

constexpr BFloat16Kernels kernels = {"AVX-512 bfloat16", false, round_to_bfloat16, multiply_tile};

}  // namespace

const BFloat16Kernels* const avx512_bfloat16 = &kernels;

}  // namespace llama::detail
#else
namespace llama::detail {
const BFloat16Kernels* const avx512_bfloat16 = nullptr;
}
#endif
