// SPDX-License-Identifier: MIT
#include "llama/model/products/kernels.hpp"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__) && defined(__AVX512BW__)
#include "llama/model/products/bfloat16_panels.hpp"

namespace llama::detail {
namespace {

// What a thread tells the processor of its tile registers: all have 16 rows of 64 bytes.
struct TileConfiguration {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64);

/// To GCC 12, the instructions that fill tiles do not read memory: what was written before has to be there.
inline void finish_writing() { asm volatile("" ::: "memory"); }

/// out [32 tokens, 32 rows], of two groups of rows.
inline void multiply_32_by_32(const BFloat16Panels& w, Index group, Index columns, const std::uint16_t* x,
                              Index x_columns, float* out, Index stride, bool add) {
    const auto x_bytes = static_cast<std::size_t>(2 * x_columns);
    const auto out_bytes = static_cast<std::size_t>(stride) * sizeof(float);
    float* const lower = out + 16 * stride;
    finish_writing();
    if (add) {
        _tile_loadd(0, out, out_bytes);
        _tile_loadd(1, out + 16, out_bytes);
        _tile_loadd(2, lower, out_bytes);
        _tile_loadd(3, lower + 16, out_bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (Index i = 0; i < columns; i += 32) {
        _tile_loadd(4, x + i, x_bytes);
        _tile_loadd(6, w.pairs[group][i / 2], 64);
        _tile_loadd(7, w.pairs[group + 1][i / 2], 64);
        _tile_loadd(5, x + 16 * x_columns + i, x_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, out_bytes);
    _tile_stored(1, out + 16, out_bytes);
    _tile_stored(2, lower, out_bytes);
    _tile_stored(3, lower + 16, out_bytes);
}

void multiply_tile(const WeightRows& w, const std::uint16_t* x, Index tokens, float* out, Index stride,
                   std::byte* scratch) {
    static_assert(sizeof(BFloat16Panels) <= tile_scratch);
    auto& panels = *reinterpret_cast<BFloat16Panels*>(scratch);
    const TileConfiguration configuration;
    asm volatile("ldtilecfg %0" : : "m"(configuration));  // _tile_loadconfig reads 8 bytes of it to GCC 12
    const Index x_columns = padded(w.columns, bfloat16_columns);
    for (Index first = 0; first < w.columns; first += columns_at_once) {
        const Index columns = w.columns - first < columns_at_once ? w.columns - first : columns_at_once;
        const bool add = first > 0;
        for (Index row = 0; row < w.rows; row += 32) {
            const Index group = row / panel_lanes;
            pack(w, group, first, columns, panels);
            if (row + 16 < w.rows) pack(w, group + 1, first, columns, panels);
            const Index rows = w.rows - row < 32 ? w.rows - row : 32;
            for (Index t = 0; t < tokens; t += 32) {
                const std::uint16_t* const from = x + t * x_columns + first;
                float* const to = out + t * stride + row;
                const Index count = tokens - t < 32 ? tokens - t : 32;
                if (rows == 32 && count == 32) {
                    multiply_32_by_32(panels, group, columns, from, x_columns, to, stride, add);
                    continue;
                }
                alignas(64) float part[32][32];
                const auto size = static_cast<std::size_t>(rows) * sizeof(float);
                for (Index i = 0; add && i < count; ++i) std::memcpy(part[i], to + i * stride, size);
                multiply_32_by_32(panels, group, columns, from, x_columns, part[0], 32, add);
                for (Index i = 0; i < count; ++i) std::memcpy(to + i * stride, part[i], size);
            }
        }
    }
    _tile_release();
}

constexpr BFloat16Kernels kernels = {"AMX bfloat16", true, round_to_bfloat16, multiply_tile};

}  // namespace

const BFloat16Kernels* const amx_bfloat16 = &kernels;

}  // namespace llama::detail
#else
namespace llama::detail {
const BFloat16Kernels* const amx_bfloat16 = nullptr;
}
#endif
