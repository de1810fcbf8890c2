// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/device/block.hpp"

namespace freqkv::cuda {

// Floats of shared memory, checked as CheckedMemory is.
class CheckedFloats {
public:
    CheckedFloats(int size, SerialBlock block)
        : block_(std::move(block)), cells_(std::make_shared<std::vector<Cell>>(static_cast<std::size_t>(size))) {}

    float load(int index) const {
        Cell& cell = find(index);
        EXPECT_TRUE(cell.written) << "float " << index << " is read before anything wrote it";
        EXPECT_FALSE(cell.write_phase == block_.phase() && cell.writer != block_.call())
            << "float " << index << " is read by call " << block_.call() << " and written by call " << cell.writer;
        cell.several_readers =
            cell.read_phase == block_.phase() && (cell.several_readers || cell.reader != block_.call());
        cell.read_phase = block_.phase();
        cell.reader = block_.call();
        return cell.value;
    }

    template <int N>
    detail::Elements<float, N> load(int index) const {
        EXPECT_EQ(index % N, 0) << "not aligned";
        detail::Elements<float, N> elements;
        for (int i = 0; i < N; ++i) elements.values[i] = load(index + i);
        return elements;
    }

    void store(int index, float value) const {
        Cell& cell = find(index);
        EXPECT_FALSE(cell.write_phase == block_.phase() && cell.writer != block_.call())
            << "float " << index << " is written by calls " << block_.call() << " and " << cell.writer;
        EXPECT_FALSE(cell.read_phase == block_.phase() && (cell.several_readers || cell.reader != block_.call()))
            << "float " << index << " is written by call " << block_.call() << " and read by call " << cell.reader;
        cell = {value, true, block_.phase(), block_.call(), cell.read_phase, cell.reader, cell.several_readers};
    }

private:
    struct Cell {
        float value = 0;
        bool written = false;
        int write_phase = 0, writer = 0, read_phase = 0, reader = 0;
        bool several_readers = false;
    };

    Cell& find(int index) const {
        const bool inside = 0 <= index && static_cast<std::size_t>(index) < cells_->size();
        EXPECT_TRUE(inside) << "float " << index << " of " << cells_->size();
        return (*cells_)[inside ? static_cast<std::size_t>(index) : 0];
    }

    SerialBlock block_;
    std::shared_ptr<std::vector<Cell>> cells_;
};

}  // namespace freqkv::cuda
