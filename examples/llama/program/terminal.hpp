// SPDX-License-Identifier: MIT
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "llama/io/file.hpp"
#include "llama/io/format.hpp"

namespace llama {

/// Thrown to leave the work when the user ends the program.
struct Interrupted {};

/// Notes SIGINT, SIGTERM and SIGHUP, which says that the terminal is gone, instead of dying of them, so that the work
/// can end in order. A second one is deadly as usual. With nohup SIGHUP stays ignored.
class Interrupt {
public:
    static void install() {
        struct sigaction action{};
        action.sa_handler = [](int signal) { received_ = signal; };
        action.sa_flags = static_cast<int>(SA_RESETHAND);
        ::sigaction(SIGINT, &action, nullptr);
        ::sigaction(SIGTERM, &action, nullptr);
        struct sigaction inherited{};
        if (::sigaction(SIGHUP, nullptr, &inherited) == 0 && inherited.sa_handler != SIG_IGN) {
            ::sigaction(SIGHUP, &action, nullptr);
        }
    }

    /// Notes them as often as they come, and lets them interrupt what waits for input: for programs in which SIGINT
    /// ends what is going on and not the program.
    static void install_to_stay() {
        struct sigaction action{};
        action.sa_handler = [](int signal) { received_ = signal; };
        ::sigaction(SIGINT, &action, nullptr);
        ::sigaction(SIGTERM, &action, nullptr);
    }

    static bool received() { return received_ != 0; }

    /// Throws Interrupted if any was received.
    static void check() {
        if (received()) throw Interrupted();
    }

    /// Whether it was SIGINT, which is then forgotten.
    static bool take_interrupt() {
        if (received_ != SIGINT) return false;
        received_ = 0;
        return true;
    }

    /// What a shell expects of a program that a signal ended: 128 + its number.
    static int exit_status() { return 128 + received_; }

private:
    static inline volatile std::sig_atomic_t received_ = 0;
};

/// Standard output, for text that is seen while it is made.
class TextOutput {
public:
    /// Throws FileError if the text cannot be written. A signal that is only noted (Interrupt) stops none of it.
    void write(std::string_view text) {
        if (text.empty()) return;
        last_ = text.back();
        while (!text.empty()) {
            const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) throw FileError("standard output", std::strerror(errno));
            text.remove_prefix(static_cast<std::size_t>(written));
        }
    }

    /// False in the middle of a character of several bytes.
    bool between_characters() const { return static_cast<unsigned char>(last_) < 0x80; }

private:
    char last_ = '\n';
};

namespace detail {

// Setting a scrolling region moves the cursor to the top.
inline constexpr const char* save_cursor = "\0337";
inline constexpr const char* restore_cursor = "\0338";

/// Takes a scrolling region away if SIGQUIT ends the program at once; other signals that do are not sent by a terminal.
class ScrollingRegion {
public:
    /// `undo` leaves the terminal as it was.
    static void set(const std::string& undo) {
        length_ = 0;
        std::memcpy(undo_, undo.data(), std::min(undo.size(), sizeof undo_));
        length_ = static_cast<std::sig_atomic_t>(std::min(undo.size(), sizeof undo_));
        struct sigaction action{};
        action.sa_handler = [](int signal) {
            const auto length = static_cast<std::size_t>(length_);
            if (length > 0 && ::write(STDERR_FILENO, undo_, length) < 0) length_ = 0;
            ::raise(signal);  // deadly once this returns
        };
        action.sa_flags = static_cast<int>(SA_RESETHAND);
        struct sigaction inherited{};
        if (::sigaction(SIGQUIT, nullptr, &inherited) == 0 && inherited.sa_handler == SIG_DFL) {
            ::sigaction(SIGQUIT, &action, nullptr);
        }
    }
    static void unset() { length_ = 0; }

private:
    static inline char undo_[64];
    static inline volatile std::sig_atomic_t length_ = 0;
};

}  // namespace detail

/// A line on standard error that is rewritten ten times a second while the work goes on; nothing at all
/// if standard error is not a terminal. Where text streams to a terminal meanwhile, the line stays at
/// the bottom, below a scrolling region for the text.
class StatusLine {
public:
    explicit StatusLine(bool text_streams)
        : shown_on_terminal_(::isatty(STDERR_FILENO) == 1 && !dumb()),
          at_bottom_(text_streams && ::isatty(STDOUT_FILENO) == 1) {}
    StatusLine(const StatusLine&) = delete;
    StatusLine& operator=(const StatusLine&) = delete;
    ~StatusLine() { clear(); }

    /// It is time for the next show().
    bool due() {
        if (!shown_on_terminal_) return false;
        const auto now = std::chrono::steady_clock::now();
        if (now < next_) return false;
        next_ = now + std::chrono::milliseconds(100);
        return true;
    }

    /// Whether show() shows anything.
    bool on_terminal() const { return shown_on_terminal_; }

    /// One line of ASCII; what does not fit the terminal's width is cut off.
    void show(const std::string& text) {
        struct winsize size{};
        if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size.ws_col = 80;
        const std::string line = text.substr(0, size.ws_col - 1u);
        if (!at_bottom_) {
            put("\r\033[2K" + line);
        } else if (size.ws_row >= 4) {
            if (size.ws_row != rows_) reserve_bottom(size.ws_row);
            put(detail::save_cursor + bottom() + "\033[2K\033[7m" + line + "\033[0m" + detail::restore_cursor);
        }
        visible_ = true;
    }

    /// Leaves the terminal as it was.
    void clear() {
        if (!visible_) return;
        if (!at_bottom_) {
            put("\r\033[2K");
        } else if (rows_ > 0) {
            put(undo());
            detail::ScrollingRegion::unset();
            rows_ = 0;
        }
        visible_ = false;
    }

private:
    static bool dumb() {
        const char* const terminal = std::getenv("TERM");
        return terminal == nullptr || std::strcmp(terminal, "dumb") == 0;
    }

    static void put(const std::string& text) {
        std::fputs(text.c_str(), stderr);
        std::fflush(stderr);
    }

    std::string bottom() const { return format("\033[%d;1H", rows_); }
    std::string undo() const {
        return detail::save_cursor + std::string("\033[r") + bottom() + "\033[2K" + detail::restore_cursor;
    }

    // Down a line and up again: the cursor cannot be on the last line then.
    void reserve_bottom(int rows) {
        rows_ = rows;
        detail::ScrollingRegion::set(undo());
        put(format("\033D%s\033[1;%dr%s\033[1A", detail::save_cursor, rows - 1, detail::restore_cursor));
    }

    bool shown_on_terminal_;
    bool at_bottom_;
    bool visible_ = false;
    int rows_ = 0;
    std::chrono::steady_clock::time_point next_{};
};

}  // namespace llama
