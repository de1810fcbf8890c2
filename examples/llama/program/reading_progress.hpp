// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "llama/io/format.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

/// Shows on a terminal how much of a text has been read, and how long the rest will take.
class ReadingProgress {
public:
    explicit ReadingProgress(std::size_t tokens) : all_(tokens) {}

    void add(std::size_t tokens) {
        read_ += tokens;
        if (!status_.due()) return;
        const double left = stopwatch_.seconds() * static_cast<double>(all_ - read_) / static_cast<double>(read_);
        status_.show(format("%zu of %zu tokens read, %s left", read_, all_, format_duration(left).c_str()));
    }

private:
    std::size_t all_, read_ = 0;
    Stopwatch stopwatch_;
    StatusLine status_{false};
};

}  // namespace llama
