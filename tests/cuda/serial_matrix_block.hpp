// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "freqkv/cuda/detail/attention/prefill_attention.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"

// A block of threads with tensor cores on the host, for one element type: all threads do one thing after the other, and
// registers are arrays of what each holds. Fragments lie in them as PTX says ("Matrix fragments for mma.m16n8k16",
// "ldmatrix"). Shared memory knows who touched what since the last barrier; a copy arrives when it is waited for, and
// until then its place must not be touched.
namespace freqkv::cuda {

template <class T>
class SerialMatrixBlock {
public:
    static constexpr int threads = 128;

    struct Thread {
        int index;
        int lane() const { return index % 32; }
        int warp() const { return index / 32; }
    };

    template <class X>
    struct Registers {
        std::array<X, threads> of{};
        X& operator()(const Thread& thread) { return of[static_cast<std::size_t>(thread.index)]; }
        const X& operator()(const Thread& thread) const { return of[static_cast<std::size_t>(thread.index)]; }
    };

    explicit SerialMatrixBlock(int chunks) : cells_(static_cast<std::size_t>(8 * chunks)) {}
    ~SerialMatrixBlock() { EXPECT_TRUE(copies_.empty()) << "copies that nobody waited for"; }
    SerialMatrixBlock(const SerialMatrixBlock&) = delete;
    SerialMatrixBlock& operator=(const SerialMatrixBlock&) = delete;

    template <class F>
    void each(const F& f) {
        for (int i = 0; i < threads; ++i) f(Thread{i});
    }

    void barrier() { ++phase_; }

    void store(const Thread& thread, int element, const T& x) { write(element, thread.index, x); }

    void store(const Thread& thread, int chunk, const detail::Elements<T, 8>& eight) {
        for (int i = 0; i < 8; ++i) write(8 * chunk + i, thread.index, eight.values[i]);
    }

    void copy(const Thread& thread, int chunk, const T* from, bool inside) {
        for (int i = 0; i < 8; ++i) {
            Cell& cell = written(8 * chunk + i, thread.index);
            EXPECT_FALSE(cell.in_flight) << "element " << 8 * chunk + i << " is copied twice at once";
            cell.in_flight = true;
        }
        copies_.push_back({thread.index, chunk, inside ? from : nullptr});
    }

    void wait() {
        for (const Copy& copy : std::exchange(copies_, {})) {
            for (int i = 0; i < 8; ++i) {
                find(8 * copy.chunk + i).in_flight = false;
                write(8 * copy.chunk + i, copy.thread, copy.from != nullptr ? copy.from[i] : T(0.0F));
            }
        }
    }

    template <class F>
    void load(Registers<detail::Fragments>& to, const F& chunk_of) {
        load<false>(to, chunk_of);
    }
    template <class F>
    void load_transposed(Registers<detail::Fragments>& to, const F& chunk_of) {
        load<true>(to, chunk_of);
    }

    template <int I>
    void multiply(Registers<detail::Sums>& sums, const Registers<detail::Fragments>& a,
                  const Registers<detail::Fragments>& b) {
        for (int warp = 0; warp < threads / 32; ++warp) {
            float left[16][16];
            float right[16][8];
            for (int lane = 0; lane < 32; ++lane) {
                const Thread thread{32 * warp + lane};
                for (int word = 0; word < 4; ++word) {
                    for (int i = 0; i < 2; ++i) {
                        left[lane / 4 + word % 2 * 8][lane % 4 * 2 + i + word / 2 * 8] =
                            element(a(thread).words[word], i);
                    }
                }
                for (int word = 0; word < 2; ++word) {
                    for (int i = 0; i < 2; ++i) {
                        right[lane % 4 * 2 + i + 8 * word][lane / 4] = element(b(thread).words[2 * I + word], i);
                    }
                }
            }
            for (int lane = 0; lane < 32; ++lane) {
                detail::Sums& of = sums(Thread{32 * warp + lane});
                for (int i = 0; i < 4; ++i) {
                    const int row = lane / 4 + i / 2 * 8;
                    const int column = lane % 4 * 2 + i % 2;
                    for (int k = 0; k < 16; ++k) of.values[i] += left[row][k] * right[k][column];
                }
            }
        }
    }

    template <int RowTiles>
    void quad_max(Registers<detail::RowValues<RowTiles>>& x) {
        combine(x, [](float a, float b) { return std::fmax(a, b); });
    }
    template <int RowTiles>
    void quad_sum(Registers<detail::RowValues<RowTiles>>& x) {
        combine(x, [](float a, float b) { return a + b; });
    }

    static float exp2(float x) { return std::exp2(x); }

private:
    struct Cell {
        T value{};
        bool is_written = false;
        bool in_flight = false;
        int write_phase = -1, writer = -1, read_phase = -1, reader = -1;
        bool several_readers = false;
    };
    struct Copy {
        int thread, chunk;
        const T* from;  // null: zeros
    };

    static float element(std::uint32_t word, int i) {
        return detail::to_float(std::bit_cast<std::array<T, 2>>(word)[static_cast<std::size_t>(i)]);
    }

    Cell& find(int element) {
        const bool inside = 0 <= element && static_cast<std::size_t>(element) < cells_.size();
        EXPECT_TRUE(inside) << "element " << element << " of " << cells_.size();
        return cells_[inside ? static_cast<std::size_t>(element) : 0];
    }

    // The cell, after noting that a thread writes it.
    Cell& written(int element, int thread) {
        Cell& cell = find(element);
        EXPECT_FALSE(cell.write_phase == phase_ && cell.writer != thread)
            << "element " << element << " is written by threads " << thread << " and " << cell.writer;
        EXPECT_FALSE(cell.read_phase == phase_ && (cell.several_readers || cell.reader != thread))
            << "element " << element << " is written by thread " << thread << " and read by " << cell.reader;
        cell.write_phase = phase_;
        cell.writer = thread;
        return cell;
    }

    void write(int element, int thread, const T& x) {
        Cell& cell = written(element, thread);
        EXPECT_FALSE(cell.in_flight) << "element " << element << " is written while it is copied";
        cell.is_written = true;
        cell.value = x;
    }

    T read(int element, int thread) {
        Cell& cell = find(element);
        EXPECT_TRUE(cell.is_written) << "element " << element << " is read before anything wrote it";
        EXPECT_FALSE(cell.in_flight) << "element " << element << " is read while it is copied";
        EXPECT_FALSE(cell.write_phase == phase_ && cell.writer != thread)
            << "element " << element << " is read by thread " << thread << " and written by " << cell.writer;
        cell.several_readers = cell.read_phase == phase_ && (cell.several_readers || cell.reader != thread);
        cell.read_phase = phase_;
        cell.reader = thread;
        return cell.value;
    }

    template <bool Transposed, class F>
    void load(Registers<detail::Fragments>& to, const F& chunk_of) {
        for (int warp = 0; warp < threads / 32; ++warp) {
            T matrices[4][8][8];
            std::array<bool, 8> banks{};
            for (int lane = 0; lane < 32; ++lane) {
                const int chunk = chunk_of(lane, warp);
                if (lane % 8 == 0) banks = {};
                EXPECT_FALSE(std::exchange(banks[static_cast<std::size_t>(chunk % 8)], true))
                    << "rows of a matrix meet the same banks";
                for (int i = 0; i < 8; ++i) {
                    matrices[lane / 8][lane % 8][i] = read(8 * chunk + i, 32 * warp + lane);
                }
            }
            for (int lane = 0; lane < 32; ++lane) {
                for (int m = 0; m < 4; ++m) {
                    std::array<T, 2> pair;
                    for (int i = 0; i < 2; ++i) {
                        const int along = lane % 4 * 2 + i;
                        pair[static_cast<std::size_t>(i)] =
                            Transposed ? matrices[m][along][lane / 4] : matrices[m][lane / 4][along];
                    }
                    to(Thread{32 * warp + lane}).words[m] = std::bit_cast<std::uint32_t>(pair);
                }
            }
        }
    }

    template <int RowTiles, class F>
    void combine(Registers<detail::RowValues<RowTiles>>& x, const F& f) {
        for (int distance = 1; distance <= 2; distance *= 2) {
            const Registers<detail::RowValues<RowTiles>> before = x;
            for (int i = 0; i < threads; ++i) {
                for (int r = 0; r < 2 * RowTiles; ++r) {
                    x(Thread{i}).values[r] = f(before(Thread{i}).values[r], before(Thread{i ^ distance}).values[r]);
                }
            }
        }
    }

    std::vector<Cell> cells_;
    std::vector<Copy> copies_;  // under way
    int phase_ = 0;
};

}  // namespace freqkv::cuda
