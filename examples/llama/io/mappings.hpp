// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>

#include "llama/io/visible_text.hpp"

namespace llama {

/// Which files are mapped where. A file that gets shorter, or whose disk fails, takes its pages away from the program,
/// which gets SIGBUS when it touches one; this is what the last message names the file with.
class Mappings {
public:
    static void add(const void* begin, std::size_t bytes, const std::string& path) {
        const std::lock_guard lock(mutex_);
        Mapping* mapping = first_.load();
        while (mapping != nullptr && mapping->bytes != 0) mapping = mapping->next;
        const bool is_new = mapping == nullptr;
        if (is_new) mapping = new Mapping{nullptr, 0, {}, first_.load()};
        mapping->path = visible(path, longest_path);
        mapping->begin = begin;
        mapping->bytes = bytes;
        if (is_new) first_ = mapping;
    }

    static void remove(const void* begin) {
        const std::lock_guard lock(mutex_);
        for (Mapping* mapping = first_.load(); mapping != nullptr; mapping = mapping->next) {
            if (mapping->begin == begin) mapping->bytes = 0;
        }
    }

    /// From now on such a page ends the program with one line on standard error and exit status 1.
    static void install_handler() {
        struct sigaction action{};
        action.sa_sigaction = &end_program;
        action.sa_flags = SA_SIGINFO;
        ::sigaction(SIGBUS, &action, nullptr);
    }

private:
    // Used again, never freed: the handler may look at it at any time.
    struct Mapping {
        std::atomic<const void*> begin;
        std::atomic<std::size_t> bytes;  // 0: free
        std::string path;
        Mapping* next;
    };

    static constexpr std::size_t longest_path = 1024;

    // Calls nothing that a signal might have interrupted.
    static void end_program(int, siginfo_t* info, void*) {
        const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
        const Mapping* mapping = first_.load();
        for (; mapping != nullptr; mapping = mapping->next) {
            const auto begin = reinterpret_cast<std::uintptr_t>(mapping->begin.load());
            if (at >= begin && at - begin < mapping->bytes) break;
        }
        char line[longest_path * 4 + 128];
        std::size_t used = 0;
        const auto append = [&](const char* text, std::size_t length) {
            length = std::min(length, sizeof line - used);
            std::memcpy(line + used, text, length);
            used += length;
        };
        const auto append_text = [&](const char* text) { append(text, std::strlen(text)); };
        append_text("freqkv-llama: ");
        if (mapping != nullptr) append(mapping->path.data(), mapping->path.size());
        append_text(mapping != nullptr ? ": " : "a file ");
        append_text("got shorter while it was read, or its disk failed\n");
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line, used);
        ::_exit(1);
    }

    static inline std::mutex mutex_;
    static inline std::atomic<Mapping*> first_ = nullptr;
};

}  // namespace llama
