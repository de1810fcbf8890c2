// SPDX-License-Identifier: MIT
#pragma once

#include <fftw3.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <numbers>
#include <string>
#include <type_traits>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/transform/makhoul.hpp"
#include "freqkv/error.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::dct::inline FREQKV_ISA {

namespace detail {

// FFTW's planner is one per process and not thread-safe; everything but executing goes through this lock.
inline std::mutex fftw_planner;

// FFTW's two interfaces under one name: a plan of `howmany` complex transforms of n points, from rows
// of `howmany` interleaved columns to columns `column` points apart.
template <class T>
struct FftwApi;

template <>
struct FftwApi<float> {
    using Complex = fftwf_complex;
    using Plan = fftwf_plan;
    struct Destroy {
        void operator()(fftwf_plan plan) const {
            const std::lock_guard lock(fftw_planner);
            fftwf_destroy_plan(plan);
        }
    };
    static fftwf_plan make(Index n, Index howmany, Index column, Complex* in, Complex* out, int sign) {
        const fftwf_iodim64 point{n, howmany, 1};
        const fftwf_iodim64 transform{howmany, 1, column};
        return fftwf_plan_guru64_dft(1, &point, 1, &transform, in, out, sign, FFTW_ESTIMATE);
    }
    static void execute(fftwf_plan plan, Complex* in, Complex* out) { fftwf_execute_dft(plan, in, out); }
};

template <>
struct FftwApi<double> {
    using Complex = fftw_complex;
    using Plan = fftw_plan;
    struct Destroy {
        void operator()(fftw_plan plan) const {
            const std::lock_guard lock(fftw_planner);
            fftw_destroy_plan(plan);
        }
    };
    static fftw_plan make(Index n, Index howmany, Index column, Complex* in, Complex* out, int sign) {
        const fftw_iodim64 point{n, howmany, 1};
        const fftw_iodim64 transform{howmany, 1, column};
        return fftw_plan_guru64_dft(1, &point, 1, &transform, in, out, sign, FFTW_ESTIMATE);
    }
    static void execute(fftw_plan plan, Complex* in, Complex* out) { fftw_execute_dft(plan, in, out); }
};

}  // namespace detail

/// The transform through FFTW 3 (link fftw3 and fftw3f; GPL), O(n log n) per column; lengths with only
/// small prime factors are several times faster than others.
///
/// By a complex FFT (detail/transform/makhoul.hpp), whose input is a block as it is: a row of real columns is a row of
/// packed ones. Its output is in contiguous columns, which is what FFTW is fastest at.
///
/// Plans are made with FFTW_ESTIMATE under one lock, never by timing (wisdom that the program imported is
/// used, as FFTW does), so results do not differ between runs. A program that calls FFTW's planner
/// itself from other threads meanwhile has to call fftw_make_planner_thread_safe() first.
struct Fftw {
    template <class T>
    class Plan {
        static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "dct::Fftw has float and double");
        using Api = detail::FftwApi<T>;
        using Complex = typename Api::Complex;

    public:
        /// A cache line of each row.
        static constexpr Index block_columns = 64 / sizeof(T);

        /// Throws Error if n is too large or FFTW makes no plan.
        explicit Plan(Index n)
            : n_(checked(n)),
              column_(n / 8 * 8 + 8),
              scratch_bytes_(buffer_bytes(n) + buffer_bytes(column_)),
              turns_(freqkv::detail::makhoul_turns<T>(n)) {
            const AlignedBuffer<std::byte> example(scratch_bytes_);  // ESTIMATE looks at its alignment only
            forward_ = make(example.data(), FFTW_FORWARD);
            inverse_ = make(example.data(), FFTW_BACKWARD);
        }

        Index scratch_bytes() const { return scratch_bytes_; }

        template <class In, class Out>
        void forward(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale) const noexcept {
            const Buffers at = buffers(in.columns(), scratch);
            Row x = {};
            for (Index i = 0; i < n_; ++i) {
                in.load(i, x);
                put(x, reordered(i), at);
            }
            execute(forward_, at);
            Row rows[tile] = {};
            for (Index first = 0; first < coefficients; first += tile) {
                const Index count = std::min(tile, coefficients - first);
                for (Index t = 0; t < count; ++t) {
                    const Index k = first + t;
                    const Turn w = turn(k, k == 0 ? scale / std::numbers::sqrt2_v<T> : scale);
                    for (Index g = 0; g < at.used; ++g) {
                        const T* const columns = at.columns + 2 * g * packed * column_;
                        fold(columns + 2 * k, columns + 2 * (k == 0 ? 0 : n_ - k), 2 * column_, w, rows[t] + g * group);
                    }
                }
                for (Index t = 0; t < count; ++t) out.store(first + t, rows[t]);
            }
        }

        template <class In, class Out>
        void inverse(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale) const noexcept {
            const Buffers at = buffers(in.columns(), scratch);
            Row x = {};
            Row y = {};
            Row v = {};
            in.load(0, x);
            unfold(x, y, turn(0, scale * std::numbers::sqrt2_v<T>), v);
            put(v, 0, at);
            for (Index k = 1; 2 * k <= n_; ++k) {
                load_or_zero(in, k, coefficients, x);
                load_or_zero(in, n_ - k, coefficients, y);
                const Turn w = turn(k, scale);
                unfold(x, y, w, v);
                put(v, k, at);
                unfold(y, x, {w.sine, w.cosine}, v);  // conj(W_{n-k}) = i W_k
                put(v, n_ - k, at);
            }
            execute(inverse_, at);
            Row rows[tile] = {};
            for (Index first = 0; first < n_; first += tile) {
                const Index count = std::min(tile, n_ - first);
                for (Index t = 0; t < count; ++t) {
                    for (Index g = 0; g < at.used; ++g) {
                        const T* const columns = at.columns + 2 * g * packed * column_;
                        gather(columns + 2 * reordered(first + t), 2 * column_, rows[t] + g * group);
                    }
                }
                for (Index t = 0; t < count; ++t) out.store(first + t, rows[t]);
            }
        }

    private:
        using Execution = std::unique_ptr<std::remove_pointer_t<typename Api::Plan>, typename Api::Destroy>;

        static constexpr Index packed = 4;          // complex columns that FFTW transforms together
        static constexpr Index group = 2 * packed;  // the real columns in them; a block has one or two groups
        static constexpr Index tile = 8;            // rows assembled at a time from FFTW's columns

        using Row = T[block_columns];

        struct Turn {
            T cosine, sine;
        };

        // By groups, each of which begins on a 32-byte boundary (FFTW asks for 16).
        struct Buffers {
            T* rows;     // [group][n][packed], complex
            T* columns;  // [group][packed][column_], complex
            Index used;  // groups that hold columns of this block
        };

        // Returns n if what is computed from it below fits an Index with room to spare.
        static Index checked(Index n) {
            checked_product("DCT scratch size", n, 4 * block_columns, sizeof(T));
            return n;
        }

        // `points` of all packed columns.
        static constexpr Index buffer_bytes(Index points) { return WorkspaceCursor::size<T>(points * block_columns); }

        Buffers buffers(Index columns, std::byte* scratch) const {
            WorkspaceCursor cursor(scratch);
            T* const rows = cursor.take<T>(n_ * block_columns);
            return {rows, cursor.take<T>(column_ * block_columns), (columns + group - 1) / group};
        }

        Execution make(std::byte* example, int sign) const {
            const Buffers at = buffers(block_columns, example);
            const std::lock_guard lock(detail::fftw_planner);
            auto* const plan = Api::make(n_, packed, column_, reinterpret_cast<Complex*>(at.rows),
                                         reinterpret_cast<Complex*>(at.columns), sign);
            if (plan == nullptr) refuse("n", std::to_string(n_), "must be a length that FFTW can plan");
            return Execution(plan);
        }

        void execute(const Execution& plan, const Buffers& at) const {
            for (Index g = 0; g < at.used; ++g) {
                Api::execute(plan.get(), reinterpret_cast<Complex*>(at.rows + g * n_ * group),
                             reinterpret_cast<Complex*>(at.columns + g * column_ * group));
            }
        }

        // Where row i stands in Makhoul's order.
        Index reordered(Index i) const { return i % 2 == 0 ? i / 2 : n_ - 1 - i / 2; }

        Turn turn(Index k, T scale) const { return {scale * turns_.data()[2 * k], scale * turns_.data()[2 * k + 1]}; }

        template <class In>
        static void load_or_zero(const In& in, Index row, Index rows, T* to) {
            if (row < rows) {
                in.load(row, to);
            } else {
                std::fill_n(to, block_columns, T(0));
            }
        }

        // The three kernels below stay out of line: inlined, compilers vectorise the loop over rows around
        // them, which is slower by far than the straight line of one row.

        // x = W v + conj(W) u, for one point of each column of a group.
        [[gnu::noinline]] static void fold(const T* v, const T* u, Index column, Turn w, T* x) {
            for (Index p = 0; p < packed; ++p) {
                const T v_re = v[p * column];
                const T v_im = v[p * column + 1];
                const T u_re = u[p * column];
                const T u_im = u[p * column + 1];
                x[2 * p] = w.cosine * (v_re + u_re) + w.sine * (v_im - u_im);
                x[2 * p + 1] = w.cosine * (v_im + u_im) - w.sine * (v_re - u_re);
            }
        }

        // v = conj(W) (x - i y), for one point of each column of a block.
        [[gnu::noinline]] static void unfold(const T* x, const T* y, Turn w, T* v) {
            Row turned;
            for (Index c = 0; c < block_columns; c += 2) {
                const T re = x[c] + y[c + 1];
                const T im = x[c + 1] - y[c];
                turned[c] = w.cosine * re - w.sine * im;
                turned[c + 1] = w.cosine * im + w.sine * re;
            }
            std::copy_n(turned, block_columns, v);
        }

        // One point of each column of a group.
        [[gnu::noinline]] static void gather(const T* point, Index column, T* row) {
            for (Index p = 0; p < packed; ++p) std::memcpy(row + 2 * p, point + p * column, 2 * sizeof(T));
        }

        void put(const T* row, Index i, const Buffers& at) const {
            for (Index g = 0; g < at.used; ++g) {
                T* const to = at.rows + (g * n_ + i) * group;
                for (Index c = 0; c < group; ++c) to[c] = row[g * group + c];
            }
        }

        Index n_;
        Index column_;  // points from one column to the next: n and some more, against cache conflicts
        Index scratch_bytes_;
        std::vector<T> turns_;  // of makhoul_turns()
        Execution forward_;
        Execution inverse_;
    };
};

}  // namespace freqkv::dct::inline FREQKV_ISA
