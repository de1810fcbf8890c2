// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/cuda/detail/transform/fft_passes.hpp"
#include "freqkv/energy.hpp"

// A block of threads on the host: what kernels are made of runs here call by call, between barriers in any of several
// orders, on shared memory that knows who touched what since the last barrier. So what compute-sanitizer looks for on
// a device (reads of memory that was never written, accesses out of bounds, races) fails a test without one.
namespace freqkv::cuda {

enum class CallOrder { forwards, backwards, shuffled };

/// A handle, as kernels hold it: copies are the same block.
class SerialBlock {
public:
    explicit SerialBlock(CallOrder order) : state_(std::make_shared<State>(order)) {}

    template <class F>
    void each(int count, const F& f) const {
        std::vector<int> calls(static_cast<std::size_t>(count));
        std::iota(calls.begin(), calls.end(), 0);
        if (state_->order == CallOrder::backwards) std::reverse(calls.begin(), calls.end());
        if (state_->order == CallOrder::shuffled) std::shuffle(calls.begin(), calls.end(), state_->random);
        ++state_->phase;
        for (const int call : calls) {
            state_->call = call;
            f(call);
        }
    }

    template <class F>
    void each(int slots, int log_packs, const F& f) const {
        each(slots << log_packs, [&](int i) { f(detail::place_of(i, log_packs)); });
    }

    template <class Read, class Write>
    void transfer(int slots, int log_packs, const Read& read, const Write& write) const {
        each(slots, log_packs, [&](detail::Place at) { write(at, read(at)); });
    }

    template <class F>
    int count(int n, const F& f) const {
        int count = 0;
        each(n, [&](int i) { count += f(i) ? 1 : 0; });
        return count;
    }

    template <class F>
    Energy sum(int count, const F& f) const {
        Energy sum;
        each(count, [&](int i) { sum += f(i); });
        return sum;
    }

    template <class F>
    void once(const F& f) const {
        each(1, [&](int) { f(); });
    }

    /// Barriers so far, and the call that runs.
    int phase() const { return state_->phase; }
    int call() const { return state_->call; }

private:
    struct State {
        explicit State(CallOrder order_) : order(order_) {}
        CallOrder order;
        std::mt19937 random{7};
        int phase = 0;
        int call = 0;
    };
    std::shared_ptr<State> state_;
};

/// Shared memory for `slots` slots, checked. A handle as well.
template <class V>
class CheckedMemory {
public:
    detail::SharedLayout layout;

    CheckedMemory(int slots, const detail::SharedLayout& layout_, SerialBlock block)
        : layout(layout_),
          block_(std::move(block)),
          cells_(
              std::make_shared<std::vector<Cell>>(static_cast<std::size_t>((slots + slots / 16) << layout.log_packs))) {
    }

    detail::Complex<V> load(int index) const {
        Cell& cell = find(index);
        const int phase = block_.phase();
        const int call = block_.call();
        EXPECT_TRUE(cell.written) << "point " << index << " is read before anything wrote it";
        EXPECT_FALSE(cell.write_phase == phase && cell.writer != call)
            << "point " << index << " is read by call " << call << " and written by call " << cell.writer;
        cell.several_readers = cell.read_phase == phase && (cell.several_readers || cell.reader != call);
        cell.read_phase = phase;
        cell.reader = call;
        return cell.value;
    }

    void store(int index, const detail::Complex<V>& value) const {
        Cell& cell = find(index);
        const int phase = block_.phase();
        const int call = block_.call();
        EXPECT_FALSE(cell.write_phase == phase && cell.writer != call)
            << "point " << index << " is written by calls " << call << " and " << cell.writer;
        EXPECT_FALSE(cell.read_phase == phase && (cell.several_readers || cell.reader != call))
            << "point " << index << " is written by call " << call << " and read by call " << cell.reader;
        cell.written = true;
        cell.write_phase = phase;
        cell.writer = call;
        cell.value = value;
    }

private:
    struct Cell {
        detail::Complex<V> value{};
        bool written = false;
        int write_phase = 0, writer = 0, read_phase = 0, reader = 0;
        bool several_readers = false;
    };

    Cell& find(int index) const {
        const bool inside = 0 <= index && static_cast<std::size_t>(index) < cells_->size();
        EXPECT_TRUE(inside) << "point " << index << " of " << cells_->size();
        return (*cells_)[inside ? static_cast<std::size_t>(index) : 0];
    }

    SerialBlock block_;
    std::shared_ptr<std::vector<Cell>> cells_;
};

}  // namespace freqkv::cuda
