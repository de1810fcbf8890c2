// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/cuda/detail/transform/transform_view.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/detail/transform/butterflies.hpp"

// The passes of an FFT, as a block of threads runs them on points in shared memory.
namespace freqkv::cuda::detail {

using freqkv::detail::Butterfly;
using freqkv::detail::Constant;
using freqkv::detail::unrolled;

template <class V>
FREQKV_INLINE Complex<V> swapped(const Complex<V>& x) {
    return {x.im, x.re};
}

/// exp(-2 pi i ...) from digit-reversed to natural order, which turns before the butterflies, or its mirror:
/// exp(+2 pi i ...) from natural to digit-reversed order, which turns after them.
enum class Decimation { in_time, in_frequency };

/// One pass of radix R over all packs of columns.
template <Index R, Decimation D, class V, ThreadBlock Block, SharedPoints<V> Memory>
FREQKV_INLINE void run_pass(const FftView& fft, const FftPass& pass, Block& block, const Memory& memory) {
    constexpr int radix = static_cast<int>(R);
    const int span = pass.span;
    const int step = memory.layout.step(span);
    const FastDivisor by_span = pass.by_span;
    const Factor* const twiddles = fft.twiddles + pass.twiddles;
#if defined(__CUDA_ARCH__)
    __builtin_assume(__isGlobal(twiddles));  // so that loads of them may overtake stores to shared memory
#endif
    block.each(fft.length / radix, memory.layout.log_packs, [&](Place at) FREQKV_INLINE_LAMBDA {  // a butterfly
        const int group = by_span.divide(at.slot);
        const int j = at.slot - group * span;
        const int first = memory.layout.index(group * span * radix + j, at.pack);
        Complex<V> x[R];
        const auto turn = [&]() FREQKV_INLINE_LAMBDA {
            if (span == 1) return;
            unrolled<R - 1>([&](auto q) FREQKV_INLINE_LAMBDA {
                const Factor w = twiddles[static_cast<int>(q) * span + j];
                x[q + 1] = x[q + 1].turned(w.re, w.im);
            });
        };
        unrolled<R>([&](auto q) FREQKV_INLINE_LAMBDA {
            x[q] = memory.load(first + static_cast<int>(q) * step);
            if constexpr (D == Decimation::in_frequency) x[q] = swapped(x[q]);
        });
        if constexpr (D == Decimation::in_time) turn();
        Butterfly<R>::run(x);
        if constexpr (D == Decimation::in_frequency) turn();
        unrolled<R>([&](auto q) FREQKV_INLINE_LAMBDA {
            if constexpr (D == Decimation::in_frequency) x[q] = swapped(x[q]);
            memory.store(first + static_cast<int>(q) * step, x[q]);
        });
    });
}

/// The Fourier transform, in place. Kept out of line, since its many butterflies are most of a kernel's code; static,
/// so that it gets the registers of the kernels of its own file where device code is linked.
template <Decimation D, class V, ThreadBlock Block, SharedPoints<V> Memory>
FREQKV_OUT_OF_LINE static void run_fft(const FftView& fft, Block block, Memory memory) {
    for (int i = 0; i < fft.passes; ++i) {
        const FftPass& pass = fft.pass[D == Decimation::in_time ? i : fft.passes - 1 - i];
        const auto run = [&](auto radix) FREQKV_INLINE_LAMBDA { run_pass<radix, D, V>(fft, pass, block, memory); };
        switch (pass.radix) {
            case 2:
                run(Constant<2>{});
                break;
            case 3:
                run(Constant<3>{});
                break;
            case 4:
                run(Constant<4>{});
                break;
            case 5:
                run(Constant<5>{});
                break;
            case 6:
                run(Constant<6>{});
                break;
            case 7:
                run(Constant<7>{});
                break;
            case 8:
                run(Constant<8>{});
                break;
            case 9:
                run(Constant<9>{});
                break;
            case 10:
                run(Constant<10>{});
                break;
            case 11:
                run(Constant<11>{});
                break;
            case 12:
                run(Constant<12>{});
                break;
            case 13:
                run(Constant<13>{});
                break;
            case 16:
                run(Constant<16>{});
                break;
            default:
                if constexpr (columns_of<V> == 1) {  // up to widest_pair_radix there are registers for two
                    switch (pass.radix) {
                        case 17:
                            run(Constant<17>{});
                            break;
                        case 19:
                            run(Constant<19>{});
                            break;
                        case 23:
                            run(Constant<23>{});
                            break;
                        case 29:
                            run(Constant<29>{});
                            break;
                        case 31:
                            run(Constant<31>{});
                            break;
                        default:
                            break;  // 1
                    }
                }
        }
    }
}

}  // namespace freqkv::cuda::detail
