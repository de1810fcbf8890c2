// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/cuda/detail/transform/transform_view.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/detail/transform/butterflies.hpp"

// The passes of an FFT as a block of threads runs them. A block is anything with
//
//     each(count, f)                     calls f(0) ... f(count - 1), in any order and at once, and returns when all
//     are
//                                        done
//     each(slots, log_packs, f)          the same with f(Place) for every slot and each of 2^log_packs packs; a
//     thread's
//                                        places are of one pack
//     transfer(slots, log_packs, read, write)
//                                        the same with write(Place, read(Place)); reads go ahead of the writes before
//                                        them
//     sum(count, f)                      adds up the Energy of f(0) ... f(count - 1), for one thread
//     once(f)                            calls f() on that thread
//
// and memory is anything with the SharedLayout `layout` and load(index), store(index, Complex<V>). Within one call of
// each() and transfer() no call of f writes what another one reads or writes. On a device the calls are the threads'
// and the end is a barrier (device_block.cuh); the host's tests run them one by one, in several orders, and check every
// access.
namespace freqkv::cuda::detail {

using freqkv::detail::Butterfly;
using freqkv::detail::Constant;
using freqkv::detail::unrolled;

/// Where a point is in shared memory: a slot, and V's worth of columns.
struct Place {
    int slot;
    int pack;
};

/// Call i of all for `slots` times 2^log_packs places.
FREQKV_INLINE Place place_of(int i, int log_packs) { return {i >> log_packs, i & ((1 << log_packs) - 1)}; }

/// Where places are in shared memory, counted in Complex<V>. With gaps, a slot is skipped behind every 16, so that the
/// first passes of a power of two, whose threads are 16 slots apart, meet different banks. Then still all points of a
/// butterfly are the same step apart: FftView::takes_gaps says for which transforms.
struct SharedLayout {
    int log_packs = 0;
    bool gaps = false;

    FREQKV_INLINE int index(int slot, int pack) const { return (slot + (slot >> (gaps ? 4 : 31))) << log_packs | pack; }
    FREQKV_INLINE int index(Place at) const { return index(at.slot, at.pack); }
    /// From a slot that a butterfly begins at to the one `span` behind it.
    FREQKV_INLINE int step(int span) const { return index(span, 0); }
};

template <class V>
FREQKV_INLINE Complex<V> swapped(const Complex<V>& x) {
    return {x.im, x.re};
}

/// exp(-2 pi i ...) from digit-reversed to natural order, which turns before the butterflies, or its mirror:
/// exp(+2 pi i ...) from natural to digit-reversed order, which turns after them.
enum class Decimation { in_time, in_frequency };

/// One pass of radix R over all packs of columns.
template <Index R, Decimation D, class V, class Block, class Memory>
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
template <Decimation D, class V, class Block, class Memory>
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
