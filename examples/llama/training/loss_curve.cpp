// SPDX-License-Identifier: MIT
#include "llama/training/loss_curve.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "llama/io/atomic_file.hpp"
#include "llama/io/file.hpp"
#include "llama/io/format.hpp"

namespace llama {

namespace {

// With as many digits as are needed to read the same number back.
std::string to_text(double number) {
    std::array<char, 32> text{};
    const auto result = std::to_chars(text.data(), text.data() + text.size(), number);
    return {text.data(), result.ptr};
}

// The mean of each loss and its neighbours, a hundredth of all to each side. At the beginning, where losses fall fast,
// there are as few on the right as on the left.
std::vector<double> smoothed(std::span<const LossPoint> points) {
    std::vector<double> sums(points.size() + 1, 0.0);
    for (std::size_t i = 0; i < points.size(); ++i) sums[i + 1] = sums[i] + points[i].loss;
    std::vector<double> means;
    const std::size_t reach = points.size() / 100 + 1;
    for (std::size_t i = 0; i < points.size(); ++i) {
        const std::size_t first = i - std::min(reach, i);
        const std::size_t end = std::min(i + std::min(reach, i) + 1, points.size());
        means.push_back((sums[end] - sums[first]) / static_cast<double>(end - first));
    }
    return means;
}

// Commands and data. No name of a file is among them: the picture goes to standard output.
std::string make_script(std::span<const LossPoint> points) {
    const std::vector<double> means = smoothed(points);
    constexpr std::size_t most = 2000;  // more could not be told apart in the picture
    const std::size_t step = points.size() / most + 1;
    const double unit = points.back().tokens >= 10'000'000 ? 1e6 : 1e3;
    const auto row = [&](const LossPoint& point, double value) {
        return to_text(static_cast<double>(point.tokens) / unit) + " " + to_text(value) + "\n";
    };
    double least = points.front().loss;
    double largest = least;
    std::string raw;
    std::string mean;
    std::string validation;
    for (std::size_t i = 0; i < points.size(); ++i) {
        const LossPoint& point = points[i];
        const double other = point.validation_loss.value_or(point.loss);
        least = std::min({least, point.loss, other});
        largest = std::max({largest, point.loss, other});
        if (i % step == 0 || i + 1 == points.size()) {
            raw += row(point, point.loss);
            mean += row(point, means[i]);
        }
        if (point.validation_loss) validation += row(point, *point.validation_loss);
    }
    std::string script = "set terminal svg size 800,500 dynamic background rgb 'white' font 'sans,14'\n";
    script += std::string("set xlabel '") + (unit > 1e3 ? "million" : "thousand") + " tokens'\n";
    script +=
        "set ylabel 'loss, nats per token'\n"
        "set xrange [0:*]\n"
        "set grid lc rgb '#dddddd' lw 1\n"
        "set border 3 lc rgb '#555555'\n"
        "set tics nomirror\n"
        "set key top right\n";
    // Where losses fall by much, equal distances are equal ratios.
    const bool ratios = least > 0 && largest > 2 * least;
    if (ratios) {
        script += "set logscale y\nset yrange [" + to_text(0.95 * least) + ":" + to_text(1.05 * largest) + "]\n";
        script += "set ytics (";
        for (double tic = 0.1; tic < 20; tic *= 10) {
            for (const double factor : {1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0}) {
                script += format("%g, ", tic * factor);
            }
        }
        script += "100)\n";
    }
    script += "$raw << end\n" + raw + "end\n$mean << end\n" + mean + "end\n";
    if (!validation.empty()) script += "$validation << end\n" + validation + "end\n";
    script +=
        "plot $raw with lines lw 1 lc rgb '#b9cfe6' title 'each step', "
        "$mean with lines lw 2 lc rgb '#1f5c99' title 'running mean'";
    if (!validation.empty()) script += ", $validation with points pt 7 ps 0.6 lc rgb '#c44e1c' title 'validation'";
    return script + "\n";
}

// How long a program may take.
class Deadline {
public:
    Deadline(std::chrono::milliseconds patience, const char* program)
        : end_(Clock::now() + patience), patience_(patience), program_(program) {}

    // Milliseconds, at least one. Throws FileError if none is left.
    int left() const {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now());
        if (left.count() > 0) return static_cast<int>(left.count());
        throw FileError(program_, "not done after " + format("%g s", static_cast<double>(patience_.count()) / 1000));
    }

private:
    using Clock = std::chrono::steady_clock;

    Clock::time_point end_;
    std::chrono::milliseconds patience_;
    const char* program_;
};

// All bytes of a pipe, at most `most`. Throws FileError.
std::string read_until(int descriptor, const Deadline& deadline, std::size_t most, const char* name) {
    std::string content;
    std::vector<char> piece(65536);
    while (true) {
        struct pollfd source{descriptor, POLLIN, 0};
        const int ready = ::poll(&source, 1, deadline.left());
        if (ready < 0 && errno != EINTR) throw FileError(name, std::strerror(errno));
        if (ready <= 0) continue;
        const ssize_t count = ::read(descriptor, piece.data(), piece.size());
        if (count < 0 && errno != EINTR) throw FileError(name, std::strerror(errno));
        if (count == 0) return content;
        if (count > 0) content.append(piece.data(), static_cast<std::size_t>(count));
        if (content.size() > most) throw FileError(name, "writes more than " + std::to_string(most) + " bytes");
    }
}

// A program that runs, at the latest to the end of the scope.
class RunningProgram {
public:
    explicit RunningProgram(pid_t id) : id_(id) {}
    RunningProgram(const RunningProgram&) = delete;
    RunningProgram& operator=(const RunningProgram&) = delete;
    ~RunningProgram() {
        if (id_ == 0) return;
        ::kill(id_, SIGKILL);
        ::waitpid(id_, nullptr, 0);
    }

    // Its status when it has ended.
    int wait(const Deadline& deadline) {
        int status = 0;
        while (::waitpid(id_, &status, WNOHANG) != id_) {
            std::this_thread::sleep_for(std::chrono::milliseconds(std::min(deadline.left(), 2)));
        }
        id_ = 0;
        return status;
    }

private:
    pid_t id_;
};

// What a program writes to standard output, given its standard input. Throws FileError, also if it takes too long.
std::string run(const char* program, const std::string& input, std::chrono::milliseconds patience) {
    constexpr std::size_t largest_output = std::size_t{16} << 20;
    const Deadline deadline(patience, program);
    // Not a pipe, so that a program that ends early does no harm.
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> script(std::tmpfile(), std::fclose);
    if (!script || std::fwrite(input.data(), 1, input.size(), script.get()) != input.size() ||
        std::fseek(script.get(), 0, SEEK_SET) != 0) {
        throw FileError(program, std::strerror(errno));
    }
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw FileError(program, std::strerror(errno));
    const Descriptor output(ends[0]);
    Descriptor child_output(ends[1]);

    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ::fileno(script.get()), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, child_output.number(), STDOUT_FILENO);
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    char* arguments[] = {const_cast<char*>(program), nullptr};
    pid_t child = 0;
    const int error = ::posix_spawnp(&child, program, &actions, nullptr, arguments, environ);
    ::posix_spawn_file_actions_destroy(&actions);
    child_output = Descriptor();
    if (error != 0) throw FileError(program, std::strerror(error));

    RunningProgram running(child);
    std::string result = read_until(output.number(), deadline, largest_output, program);
    const int status = running.wait(deadline);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw FileError(program, "failed");
    return result;
}

}  // namespace

void write_loss_csv(const std::string& path, std::span<const LossPoint> points) {
    std::string text = "step,tokens,learning_rate,loss,gradient_norm,seconds,validation_loss\n";
    for (const LossPoint& point : points) {
        text += std::to_string(point.step) + "," + std::to_string(point.tokens) + "," + to_text(point.learning_rate) +
                "," + to_text(point.loss) + "," + to_text(point.gradient_norm) + "," + to_text(point.seconds) + "," +
                (point.validation_loss ? to_text(*point.validation_loss) : "") + "\n";
    }
    AtomicFile(path).write(text);
}

void draw_loss_curve(const std::string& path, std::span<const LossPoint> points, std::chrono::milliseconds patience) {
    static std::atomic<bool> told = false;
    if (points.empty()) return;
    try {
        AtomicFile(path).write(run("gnuplot", make_script(points), patience));
    } catch (const FileError& error) {
        if (!told.exchange(true)) {
            std::fprintf(stderr, "freqkv-llama: note: the losses are not drawn: %s\n", error.what());
        }
    }
}

}  // namespace llama
