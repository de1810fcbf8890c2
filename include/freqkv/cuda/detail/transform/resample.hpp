// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/cuda/detail/device/row_map.hpp"
#include "freqkv/cuda/detail/transform/fft_passes.hpp"
#include "freqkv/cuda/detail/transform/transform_view.hpp"
#include "freqkv/energy.hpp"

// Compression as one block of threads does it: some columns of one head, from the rows that are read to the rows that
// are written, with everything between in shared memory. All rows are read before the first is written, and blocks
// share no columns; so it may be done in place.
namespace freqkv::cuda::detail {

/// sqrt(scaled) IDCT of the first `kept` coefficients of DCT of rows: compression (equations 6 to 8), its adjoint, and
/// with one of the two transforms left out the transform itself.
template <class T>
struct ResampleTask {
    EntryRows<const T> in;
    EntryRows<T> out;
    const TransformView* forward = nullptr;  ///< DCT-II of the rows read; null: they are coefficients
    const TransformView* inverse = nullptr;  ///< DCT-III to the rows written; null: coefficients are written
    int heads = 0;
    int kept = 0;  ///< coefficients between the two
    float scale = 1;
    /// Of compression: the rows of `in` that are read, [forward->length]; behind them those of `out` that are written,
    /// of which all have been read, and what out_positions takes each of these for, [inverse->length] both.
    RowMap rows;
    Positions in_positions;      ///< un-rotates rows as they are read
    Positions out_positions;     ///< rotates rows as they are written
    Energy* energies = nullptr;  ///< [heads][groups of columns], overwritten; null: not asked for

    FREQKV_INLINE int columns() const { return in.columns.count(); }
};

/// The layout that both transforms of a task can work in.
template <class T>
FREQKV_INLINE SharedLayout layout_of(const ResampleTask<T>& task, int log_packs) {
    const bool gaps = (task.forward == nullptr || task.forward->fft.takes_gaps) &&
                      (task.inverse == nullptr || task.inverse->fft.takes_gaps);
    return {log_packs, gaps};
}

template <class V, class T, ThreadBlock Block, SharedPoints<V> Memory>
class Resample {
public:
    /// Packs of columns [first_pack, first_pack + 2^log_packs) of one head; memory.layout is layout_of(task,
    /// log_packs), with room for all slots of both transforms.
    FREQKV_INLINE Resample(const ResampleTask<T>& task, int head, int first_pack, const Block& block,
                           const Memory& memory)
        : task_(task), head_(head), first_pack_(first_pack), block_(block), memory_(memory) {}

    /// `energy`: where this block's part of task.energies is; null if it is not asked for.
    FREQKV_INLINE void run(Energy* energy) const {
        const TransformView* const forward = task_.forward;
        const TransformView* const inverse = task_.inverse;
        if (forward != nullptr) {
            fourier(*forward);
        } else {
            read_rows(task_.kept, nullptr);
        }
        if (forward != nullptr && energy != nullptr) measure(*forward, energy);
        if (forward != nullptr && inverse != nullptr && inverse->length == task_.kept &&
            forward->length >= 2 * task_.kept - 1) {
            halve(*forward, *inverse);
        } else {
            if (forward != nullptr) cosine(*forward);
            if (inverse != nullptr) inverse_cosine(*inverse);
        }
        if (inverse != nullptr) {
            inverse_fourier(*inverse);
        } else {
            write_rows(task_.kept, nullptr);
        }
    }

private:
    FREQKV_INLINE int log_packs() const { return memory_.layout.log_packs; }
    FREQKV_INLINE Complex<V> get(int slot, int pack) const { return memory_.load(memory_.layout.index(slot, pack)); }
    FREQKV_INLINE void put(int slot, int pack, const Complex<V>& x) const {
        memory_.store(memory_.layout.index(slot, pack), x);
    }

    // f(Place) for slots [0, slots) of all packs.
    template <class F>
    FREQKV_INLINE void each(int slots, const F& f) const {
        block_.each(slots, log_packs(), f);
    }

    FREQKV_INLINE int column_of(int pack) const { return (first_pack_ + pack) * columns_of<V>; }

    FREQKV_INLINE static int row_of(const std::int32_t* rows, int slot) { return rows == nullptr ? slot : rows[slot]; }

    // Row `rows[slot]`, or row `slot` where rows is null, to each of the first `count` slots, un-rotated.
    FREQKV_INLINE void read_rows(int count, const std::int32_t* rows) const {
        const EntryRows<const T> in = task_.in.of_head(head_);
        const RowMap from = task_.rows.of_head(head_);
        in.with_access([&](auto access) {
            block_.transfer(
                count, log_packs(),
                [&](Place at) {
                    return in.template load<decltype(access), V>(from(row_of(rows, at.slot)), column_of(at.pack));
                },
                [&](Place at, const Complex<V>& x) { put(at.slot, at.pack, x); });
        });
        turn_rows<true>(count, rows, from, in, task_.in_positions);
    }

    // The same back.
    FREQKV_INLINE void write_rows(int count, const std::int32_t* rows) const {
        const EntryRows<T> out = task_.out.of_head(head_);
        const RowMap to = task_.rows.of_head(head_).behind(task_.forward == nullptr ? 0 : task_.forward->length);
        turn_rows<false>(count, rows, to.behind(count), out, task_.out_positions);
        out.with_access([&](auto access) {
            each(count, [&](Place at) {
                out.template store<decltype(access)>(to(row_of(rows, at.slot)), column_of(at.pack),
                                                     get(at.slot, at.pack));
            });
        });
    }

    // In memory, for the loads not to wait for each other's angles.
    template <bool Inverse, class U>
    FREQKV_INLINE void turn_rows(int count, const std::int32_t* rows, const RowMap& map, const EntryRows<U>& like,
                                 const Positions& positions) const {
        if (positions.frequencies == nullptr) return;
        each(count, [&](Place at) {
            const Index position = positions.of(map(row_of(rows, at.slot)));
            put(at.slot, at.pack,
                like.template turned<Inverse>(get(at.slot, at.pack), column_of(at.pack), positions.frequencies,
                                              position));
        });
    }

    // Rows in Makhoul's order to their Fourier transform in memory, in natural order.
    FREQKV_INLINE void fourier(const TransformView& t) const {
        read_rows(t.length, t.rows);
        if (t.convolves()) {
            convolve(t);
        } else {
            run_fft<Decimation::in_time, V>(t.fft, block_, memory_);
        }
    }

    // The same backwards: a spectrum in memory to rows. Its sign is the other one, which is a matter of exchanging
    // real and imaginary parts before and after.
    FREQKV_INLINE void inverse_fourier(const TransformView& t) const {
        if (t.convolves()) {
            const auto swap = [&](Place at) { put(at.slot, at.pack, swapped(get(at.slot, at.pack))); };
            each(t.length, swap);
            convolve(t);
            each(t.length, swap);
        } else {
            run_fft<Decimation::in_frequency, V>(t.fft, block_, memory_);
        }
        write_rows(t.length, t.rows);
    }

    // The Fourier transform in natural order as a convolution with the conjugate of the chirp. The two transforms are
    // of opposite sign and meet in digit-reversed order; which of the signs comes first does not matter.
    FREQKV_INLINE void convolve(const TransformView& t) const {
        const auto turn = [&](Place at) {
            const Factor factor = t.chirp[at.slot];
            put(at.slot, at.pack, get(at.slot, at.pack).turned(factor.re, factor.im));
        };
        each(t.fft.length, [&](Place at) { at.slot < t.length ? turn(at) : put(at.slot, at.pack, Complex<V>{}); });
        run_fft<Decimation::in_frequency, V>(t.fft, block_, memory_);
        each(t.fft.length, [&](Place at) {
            const Factor factor = t.chirp_spectrum[at.slot];
            put(at.slot, at.pack, get(at.slot, at.pack).turned(factor.re, factor.im));
        });
        run_fft<Decimation::in_time, V>(t.fft, block_, memory_);
        each(t.length, turn);
    }

    // The spectrum Z to the coefficients X[k] = f(k) / 2 (w Z[k] + conj(w) Z[n - k]), w = exp(-pi i k / 2n), of both
    // columns in one complex number: the DCT is linear, so it may be taken of real and imaginary parts at once. X[n -
    // k] comes from the same two numbers. Coefficients from `kept` on are not formed.
    FREQKV_INLINE void cosine(const TransformView& t) const {
        const int n = t.length;
        const int pairs = n / 2 + 1;
        each(task_.kept < pairs ? task_.kept : pairs, [&](Place at) {
            const int k = at.slot;
            if (k == 0) return put(0, at.pack, first_factor(n) * get(0, at.pack));
            const auto [p, q] = turned_pair(t, k, at.pack, half_factor(n));
            put(k, at.pack, p + q);
            if (2 * k != n && n - k < task_.kept) put(n - k, at.pack, Complex<V>{q.im - p.im, p.re - q.re});
        });
    }

    // factor w Z[k] and factor conj(w) Z[n - k]. X[k] is their sum, X[n - k] i times their difference.
    struct TurnedPair {
        Complex<V> p, q;
    };
    FREQKV_INLINE TurnedPair turned_pair(const TransformView& t, int k, int pack, float factor) const {
        const Factor w = t.quarter_turns[k];
        return {factor * get(k, pack).turned(w.re, w.im), factor * get(t.length - k, pack).turned(w.re, -w.im)};
    }

    // Coefficients, of which those from `kept` on are 0, to the spectrum of the rows in Makhoul's order over n:
    // f(k) / 2 conj(w) (X[k] - i X[n - k]).
    FREQKV_INLINE void inverse_cosine(const TransformView& t) const {
        const int n = t.length;
        const float factor = task_.scale * half_factor(n);
        const auto coefficient = [&](int k, int pack) { return k < task_.kept ? get(k, pack) : Complex<V>{}; };
        each(n / 2 + 1, [&](Place at) {
            const int k = at.slot;
            const Complex<V> x = coefficient(k, at.pack);
            if (k == 0) return put(0, at.pack, (task_.scale * first_factor(n)) * x);
            put_spectrum(t, k, at.pack, factor, x, coefficient(n - k, at.pack));
        });
    }

    // cosine() and inverse_cosine() at once, for a span that shrinks to half of it or less: the spectrum of the long
    // one to that of the short one. Then a call writes only what it alone has read.
    FREQKV_INLINE void halve(const TransformView& from, const TransformView& to) const {
        const int n = from.length;
        const int m = to.length;
        const float factor = task_.scale * half_factor(n) * half_factor(m);
        each(m / 2 + 1, [&](Place at) {
            const int k = at.slot;
            if (k == 0) {
                return put(0, at.pack, (task_.scale * first_factor(n) * first_factor(m)) * get(0, at.pack));
            }
            const auto coefficient = [&](int j) {
                const auto [p, q] = turned_pair(from, j, at.pack, 1);
                return p + q;
            };
            put_spectrum(to, k, at.pack, factor, coefficient(k), coefficient(m - k));
        });
    }

    // Points k and n - k of the spectrum from coefficients x = X[k] and y = X[n - k].
    FREQKV_INLINE void put_spectrum(const TransformView& t, int k, int pack, float factor, const Complex<V>& x,
                                    const Complex<V>& y) const {
        const Factor w = t.quarter_turns[k];
        put(k, pack, factor * freqkv::detail::minus_i(x, y).turned(w.re, -w.im));
        if (2 * k != t.length) put(t.length - k, pack, factor * freqkv::detail::plus_i(x, y).turned(w.re, w.im));
    }

    // f(0), and half of the other f(k).
    FREQKV_INLINE static float first_factor(int n) { return sqrtf(1.0F / static_cast<float>(n)); }
    FREQKV_INLINE static float half_factor(int n) { return sqrtf(0.5F / static_cast<float>(n)); }

    // The squares of all coefficients, and of those that are dropped; the spectrum stays as it is.
    FREQKV_INLINE void measure(const TransformView& t, Energy* energy) const {
        const int n = t.length;
        const Energy sum = block_.sum((n / 2 + 1) << log_packs(), [&](int i) {
            const Place at = place_of(i, log_packs());
            const int k = at.slot;
            if (k == 0) {
                const double square = squared(first_factor(n) * get(0, at.pack));
                return Energy{square, 0};
            }
            const auto [p, q] = turned_pair(t, k, at.pack, half_factor(n));
            const double low = squared(p + q);
            const double high = 2 * k == n ? 0 : squared(p - q);
            return Energy{low + high, (k < task_.kept ? 0 : low) + (n - k < task_.kept ? 0 : high)};
        });
        block_.once([&] { *energy = sum; });
    }

    FREQKV_INLINE static double squared(const Complex<V>& x) {
        double square = 0;
        for (int c = 0; c < columns_of<V>; ++c) {
            const auto re = static_cast<double>(column(x.re, c));
            const auto im = static_cast<double>(column(x.im, c));
            square += re * re + im * im;
        }
        return square;
    }

    const ResampleTask<T>& task_;
    int head_;
    int first_pack_;
    Block block_;
    Memory memory_;
};

}  // namespace freqkv::cuda::detail
