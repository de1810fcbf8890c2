// SPDX-License-Identifier: MIT
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/io/utf8.hpp"
#include "llama/model/random.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"
#include "sanitized.hpp"

// Files that are made to do harm, and what freqkv-llama may do with them: take them, or refuse them in one line; in two
// seconds of the processor and with 64 MiB of memory and four times the files' size.
namespace llama::test {

#if defined(__OPTIMIZE__)
inline constexpr bool limits_hold = !freqkv::test::sanitized;
#else
inline constexpr bool limits_hold = false;  // such a build takes several times as much of both
#endif

// Where the limits do not hold, a tenth of what is many goes through the same code and takes a tenth of the time.
constexpr std::size_t many(std::size_t count) { return limits_hold || count < 1000 ? count : count / 10; }

inline std::string repeated(const std::string& text, std::size_t count) {
    count = many(count);
    std::string all;
    all.reserve(text.size() * count);
    for (std::size_t i = 0; i < count; ++i) all += text;
    return all;
}

/// text(0) + text(1) + …, with commas between them.
inline std::string listed(std::size_t count, const std::function<std::string(std::string)>& text) {
    count = many(count);
    std::string all;
    for (std::size_t i = 0; i < count; ++i) all.append(i > 0 ? "," : "").append(text(std::to_string(i)));
    return all;
}

/// A file that was valid, with one to four changes: bytes, numbers, and parts that are cut out or doubled.
inline std::string damaged(std::string file, std::uint64_t seed) {
    Random random(seed);
    const auto below = [&](std::size_t end) { return end == 0 ? 0 : static_cast<std::size_t>(random.next() % end); };
    for (std::size_t change = 0; change <= seed % 4 && !file.empty(); ++change) {
        // Most of what can be wrong is near the beginning.
        const std::size_t at = below(below(2) == 0 ? std::min<std::size_t>(file.size(), 256) : file.size());
        const std::size_t length = std::min(1 + below(32), file.size() - at);
        switch (below(7)) {
            case 0:
                file[at] = static_cast<char>(below(256));
                break;
            case 1:
                file[at] = static_cast<char>(file[at] ^ 1 << below(8));
                break;
            case 2:
                for (std::size_t i = 0; i < std::min<std::size_t>(length, 8); ++i) file[at + i] = '\xff';
                break;
            case 3:
                file.erase(at, length);
                break;
            case 4:
                file.insert(at, file.substr(at, length));
                break;
            case 5:
                file.resize(at);
                break;
            default:
                file.insert(at, std::string(length, "0[{\"\x1b\x9b,9"[below(8)]));
                break;
        }
    }
    return file;
}

class HostileFiles : public testing::Test {
protected:
    struct File {
        std::string name;
        std::string content;
    };

    // Writes files over those of the case before, runs the program on them, and checks how that ends. In the
    // arguments, DIR stands for the directory of the files.
    void expect_handled(const std::string& what, const std::vector<File>& files, Arguments arguments,
                        const std::string& input = {}) {
        SCOPED_TRACE(what);
        const TemporaryDirectory directory;
        std::size_t bytes = 0;
        for (const File& file : files) {
            const std::filesystem::path path = directory / file.name;
            std::filesystem::create_directories(path.parent_path());
            directory.write(file.name, file.content);
            bytes += file.content.size();
        }
        for (std::string& word : arguments) {
            if (const std::size_t at = word.find("DIR"); at != std::string::npos) word.replace(at, 3, directory.path());
        }
        ::malloc_trim(0);  // a child's memory counts from that of its parent on
        Surroundings with;
        with.input = input;
        if (limits_hold) with.limits = {{RLIMIT_CPU, 2}};
        const Outcome outcome = run(arguments, with);
        ++cases_;
        EXPECT_LE(outcome.status, 2) << outcome.err;
        if (outcome.status != 0) {
            const std::string refusal = without_notes(outcome.err);
            EXPECT_EQ(std::count(refusal.begin(), refusal.end(), '\n'), 1) << outcome.err;
            EXPECT_THAT(refusal, testing::StartsWith("freqkv-llama: "));
            EXPECT_LE(outcome.err.size(), 4096u) << outcome.err;
        }
        for (const std::string& text : {outcome.out, outcome.err}) {
            EXPECT_FALSE(first_invalid_utf8(text)) << text;
            EXPECT_TRUE(std::none_of(text.begin(), text.end(), [](char c) {
                return (static_cast<unsigned char>(c) < 0x20 && !(c >= '\t' && c <= '\r')) || c == 0x7f;
            })) << text;
        }
        if (!limits_hold) return;
        EXPECT_LE(outcome.memory_bytes, (std::size_t{64} << 20) + 4 * bytes)
            << "for " << bytes << " bytes; " << outcome.err;
        longest_ = std::max(longest_, outcome.processor_seconds);
        most_memory_ = std::max(most_memory_, outcome.memory_bytes);
    }

    // The same for a number of damaged copies of `content`.
    void expect_damaged_handled(const std::string& name, const std::string& content, std::uint64_t copies,
                                const std::vector<File>& others, const Arguments& arguments) {
        for (std::uint64_t seed = 0; seed < copies; ++seed) {
            std::vector<File> files = others;
            files.push_back({name, damaged(content, seed)});
            expect_handled(name + ", damaged by " + std::to_string(seed), files, arguments);
        }
    }

    void TearDown() override {
        RecordProperty("files", static_cast<int>(cases_));
        std::printf("%zu files, at most %.2f s of the processor and %.0f MiB of memory\n", cases_, longest_,
                    static_cast<double>(most_memory_ >> 20));
    }

private:
    static std::string without_notes(std::string text) {
        constexpr std::string_view note = "freqkv-llama: note: ";
        while (text.starts_with(note)) text.erase(0, std::min(text.find('\n'), text.size() - 1) + 1);
        return text;
    }

    std::size_t cases_ = 0;
    double longest_ = 0;
    std::size_t most_memory_ = 0;
};

}  // namespace llama::test
