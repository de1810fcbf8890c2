// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace llama {

/// Lines that someone types: on a terminal with editing and a history of this run, otherwise from standard input as
/// they are.
class LineReader {
public:
    enum class Result : std::uint8_t { line, end, interrupted };

    LineReader();
    ~LineReader();
    LineReader(const LineReader&) = delete;
    LineReader& operator=(const LineReader&) = delete;

    /// Whether someone sees the prompt.
    bool on_terminal() const { return editor_ != nullptr; }

    /// The next line, without its end. Interrupted if a signal came that Interrupt notes.
    Result read(const std::string& prompt, std::string& line);

private:
    class Editor;
    Result read_plain(std::string& line);

    std::unique_ptr<Editor> editor_;
    std::string rest_;  // read from standard input and not yet given out
    bool ended_ = false;
};

}  // namespace llama
