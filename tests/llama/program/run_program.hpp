// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace llama::test {

/// What a program did.
struct Outcome {
    int status = -1;  ///< exit status, or 128 + the signal that ended it
    std::string out;
    std::string err;
    double processor_seconds = 0;
    std::size_t memory_bytes = 0;  ///< the most that was in use at once
};

/// What a program gets, besides its arguments.
struct Surroundings {
    std::string input;                                   ///< on standard input
    std::string path;                                    ///< the variable PATH, unless it is empty
    std::string out_file;                                ///< standard output goes there instead of to Outcome::out
    bool terminal = false;                               ///< standard error is a terminal
    bool terminal_out = false;                           ///< standard output is the same terminal (Outcome::err)
    std::function<void(pid_t, const Outcome&)> on_text;  ///< after each piece of output
    std::vector<std::pair<int, rlim_t>> limits;          ///< of setrlimit(), on the machine's resources
};

/// Whether Surroundings::terminal can be had: in a chroot there may be none.
inline bool has_terminal() {
    int master = -1, slave = -1;
    if (::openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) return false;
    ::close(master);
    ::close(slave);
    return true;
}

/// Runs a program to its end.
inline Outcome run_program(const std::vector<std::string>& command, const Surroundings& with = {}) {
    int in[2], out[2], err[2];
    if (::pipe(in) != 0 || ::pipe(out) != 0) throw std::runtime_error("no pipe");
    if (with.terminal) {
        struct winsize size{};
        size.ws_row = 24;
        size.ws_col = 100;
        if (::openpty(&err[0], &err[1], nullptr, nullptr, &size) != 0) throw std::runtime_error("no terminal");
    } else if (::pipe(err) != 0) {
        throw std::runtime_error("no pipe");
    }
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);

    const pid_t child = ::fork();
    if (child < 0) throw std::runtime_error("no process");
    if (child == 0) {
        ::setenv("TERM", "xterm", 1);
        if (!with.path.empty()) ::setenv("PATH", with.path.c_str(), 1);
        ::dup2(in[0], STDIN_FILENO);
        ::dup2(with.out_file.empty() ? out[1] : ::open(with.out_file.c_str(), O_WRONLY), STDOUT_FILENO);
        ::dup2(err[1], STDERR_FILENO);
        if (with.terminal_out) ::dup2(err[1], STDOUT_FILENO);
        for (const int descriptor : {in[0], in[1], out[0], out[1], err[0], err[1]}) ::close(descriptor);
        for (const auto& [resource, most] : with.limits) {
            const struct rlimit limit{most, most};
            ::setrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
        }
        ::execv(arguments[0], arguments.data());
        ::_exit(127);
    }
    for (const int descriptor : {in[0], out[1], err[1]}) ::close(descriptor);
    // Small enough for the pipe's buffer, so that this cannot block.
    if (::write(in[1], with.input.data(), with.input.size()) < 0) throw std::runtime_error("no input");
    ::close(in[1]);

    Outcome outcome;
    struct pollfd sources[] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    std::string* const texts[] = {&outcome.out, &outcome.err};
    for (int open = 2; open > 0;) {
        if (::poll(sources, 2, -1) < 0 && errno != EINTR) throw std::runtime_error("no poll");
        for (int i = 0; i < 2; ++i) {
            if (sources[i].fd < 0 || sources[i].revents == 0) continue;
            char buffer[4096];
            const ssize_t count = ::read(sources[i].fd, buffer, sizeof buffer);
            if (count > 0) {
                texts[i]->append(buffer, static_cast<std::size_t>(count));
                if (with.on_text) with.on_text(child, outcome);
            } else {  // the end, which a terminal reports as an error
                sources[i].fd = -1;
                --open;
            }
        }
    }
    ::close(out[0]);
    ::close(err[0]);
    int status = 0;
    struct rusage used{};
    ::wait4(child, &status, 0, &used);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    outcome.processor_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
    outcome.memory_bytes = static_cast<std::size_t>(used.ru_maxrss) * 1024;
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
}

}  // namespace llama::test
