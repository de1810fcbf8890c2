// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pty.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"
#include "sanitized.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::expect_refusal;
using test::Outcome;
using test::output_of;
using test::run;
using test::Surroundings;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

// Random weights and the control tokens of LLaMA-3.
const std::string chat_model = FREQKV_FIXTURES_DIR "/models/gguf-vocabulary-gpt2.gguf";

// With these options, unless others are given.
Arguments chat(const Arguments& options = {}) {
    Arguments command{"chat", "--model", chat_model};
    const Arguments defaults{"--template", "llama3", "--temperature", "1", "--tokens", "12",
                             "--threads",  "1",      "--capacity",    "64"};
    for (std::size_t i = 0; i < defaults.size(); i += 2) {
        if (std::find(options.begin(), options.end(), defaults[i]) != options.end()) continue;
        command = command + Arguments{defaults[i], defaults[i + 1]};
    }
    return command + options;
}

Outcome said(const std::string& input, const Arguments& options = {}) {
    Surroundings with;
    with.input = input;
    Outcome outcome = run(chat(options), with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
}

// Entries of the cache, each time that /cache was given.
std::vector<int> entries_in(const std::string& err) {
    std::vector<int> entries;
    const std::string mark = "layers 0 to 0: ";
    for (std::size_t at = err.find(mark); at != std::string::npos; at = err.find(mark, at + 1)) {
        entries.push_back(std::stoi(err.substr(at + mark.size())));
    }
    return entries;
}

TEST(Chat, RepliesToEachLine) {
    const Outcome once = said("Hello\n");
    EXPECT_EQ(once.err, "");
    EXPECT_TRUE(once.out.ends_with("\n"));
    EXPECT_GT(once.out.size(), 3u);
    const Outcome twice = said("Hello\nAnd then?");
    EXPECT_TRUE(twice.out.starts_with(once.out)) << twice.out;
    EXPECT_GT(twice.out.size(), once.out.size() + 3);
    EXPECT_EQ(said("").out, "");
    EXPECT_EQ(said("\n\n").out, "");
}

TEST(Chat, IsGenerateWithAMemory) {
    const std::string alone =
        output_of({"generate", "--chat", "--model", chat_model, "--template", "llama3", "--prompt", "Hello", "--tokens",
                   "12", "--temperature", "1", "--threads", "1"});
    EXPECT_EQ(alone + "\n", said("Hello\n").out);
    EXPECT_EQ(said("Hello\n/clear\nHello\n").out, said("Hello\n").out + said("Hello\n").out);
    EXPECT_NE(said("Hello\nHello\n").out, said("Hello\n").out + said("Hello\n").out);
}

TEST(Chat, SaysTheSystemsWordsFirst) {
    const std::string plain = said("Hello\n").out;
    const std::string told = said("Hello\n", {"--system", "Be a bee"}).out;
    EXPECT_NE(plain, told);
    // The sinks are those of the beginning.
    EXPECT_EQ(said("Hello\n/system Be a bee\nHello\n", {"--sinks", "8"}).out,
              plain + said("Hello\n", {"--system", "Be a bee", "--sinks", "8"}).out);
    EXPECT_EQ(said("/system\nHello\n", {"--system", "Be a bee"}).out, plain);
}

TEST(Chat, ObeysCommands) {
    const Outcome outcome = said("/cache\nHello\n/cache\n/clear\n/cache\n/help\n/nonsense x\n//cache\n/exit\nNever\n",
                                 {"--temperature", "0"});  // replies of one line
    EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 2) << outcome.out;
    const std::vector<int> entries = entries_in(outcome.err);
    ASSERT_EQ(entries.size(), 3u);
    EXPECT_EQ(entries[0], 0);
    EXPECT_GT(entries[1], 10);
    EXPECT_EQ(entries[2], 0);
    EXPECT_THAT(outcome.err, ContainsRegex("low-pass, 8[.]00 KiB of keys and values; [0-9]+ tokens of conversation\n"));
    EXPECT_THAT(outcome.err, HasSubstr("/clear  "));
    EXPECT_THAT(outcome.err, HasSubstr("/nonsense is no command; /help lists them\n"));
    EXPECT_THAT(said("Hello\n", {"--verbose"}).err,
                ContainsRegex("^[0-9]+ tokens read \\([0-9.]+ tokens/s\\), 12 written \\([0-9.]+ tokens/s\\)\n$"));
}

TEST(Chat, JoinsLinesThatSaySo) {
    const std::string reply = said("one\\\ntwo\n", {"--temperature", "0"}).out;
    EXPECT_EQ(std::count(reply.begin(), reply.end(), '\n'), 1) << reply;
    EXPECT_NE(said("one\\\ntwo\n").out, said("one two\n").out);
    EXPECT_EQ(said("one\\").out, said("one\\\n").out);
}

TEST(Chat, GoesOnAfterWhatIsNoText) {
    const Outcome outcome = said("a\xff\nHello\n");
    EXPECT_EQ(outcome.err, "the message is not UTF-8 at byte 1\n");
    EXPECT_EQ(outcome.out, said("Hello\n").out);
}

// What a user says cannot end the user's turn.
TEST(Chat, ReadsNoControlTokensInMessages) {
    const auto tokens = [](const std::string& message) { return std::stoi(said(message + "\n", {"--verbose"}).err); };
    EXPECT_GT(tokens("<|eot_id|>"), tokens("x") + 4);
}

TEST(Chat, RefusesWhatItDoesNotKnow) {
    expect_refusal(run({"chat", "--model", chat_model}), 1, {chat_model, "no chat template", "--template", "chatml"});
    expect_refusal(run({"chat", "--model", chat_model, "--template", "vicuna"}), 2, {"--template", "vicuna", "llama3"});
    expect_refusal(run({"chat", "--model", chat_model, "--template", "chatml"}), 1, {"<|im_end|>"});
    expect_refusal(run({"generate", "--model", chat_model, "--system", "x"}), 2, {"--chat"});
    expect_refusal(run({"generate", "--model", chat_model, "--chat", "--prompt", "a\xff", "--template", "llama3"}), 1,
                   {"--prompt: the message is not UTF-8 at byte 1"});
}

// Kilobytes of a process's memory that is in use.
long resident(pid_t process) {
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmRSS:")) return std::stol(line.substr(6));
    }
    return 0;
}

TEST(Chat, GoesOnForEverInBoundedMemory) {
    Surroundings with;
    for (int i = 0; i < 3000; ++i) {
        with.input += "Say " + std::to_string(i) + "\n";
        if (i % 1000 == 999) with.input += "/cache\n";
    }
    long early = 0, late = 0;
    with.on_text = [&](pid_t child, const Outcome& so_far) {
        const auto replies = std::count(so_far.out.begin(), so_far.out.end(), '\n');
        if (replies > 300 && early == 0) early = resident(child);
        if (replies > 300) late = std::max(late, resident(child));
    };
    const Outcome outcome = run(chat({"--ratio", "0.4"}), with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_GE(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 3000);
    const std::vector<int> entries = entries_in(outcome.err);
    ASSERT_EQ(entries.size(), 3u);
    for (const int count : entries) EXPECT_LE(count, 64);
    EXPECT_THAT(outcome.err, ContainsRegex("; [1-9][0-9][0-9][0-9][0-9]+ tokens of conversation"));
    ASSERT_GT(early, 0);
    // What was freed stays with a sanitizer for a while.
    EXPECT_LT(late, early + (freqkv::test::sanitized ? 256 << 10 : 512)) << "KiB";
}

// A conversation on a terminal.
class Terminal {
public:
    explicit Terminal(const Arguments& arguments) {
        std::vector<std::string> words = Arguments{FREQKV_LLAMA} + arguments;
        struct winsize size{};
        size.ws_row = 24;
        size.ws_col = 100;
        child_ = ::forkpty(&master_, nullptr, nullptr, &size);
        if (child_ != 0) return;
        ::setenv("TERM", "xterm", 1);
        ::setenv("HOME", "/nonexistent", 1);
        std::vector<char*> pointers;
        for (std::string& word : words) pointers.push_back(word.data());
        pointers.push_back(nullptr);
        ::execv(pointers[0], pointers.data());
        ::_exit(127);
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    ~Terminal() {
        if (child_ > 0) {
            ::kill(child_, SIGKILL);
            wait();
        }
        ::close(master_);
    }

    void type(const std::string& keys) {
        ASSERT_EQ(::write(master_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
    }

    // Reads on until `text` comes; what came before it and it. Empty after half a minute.
    std::string until(const std::string& text) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (std::chrono::steady_clock::now() < end) {
            if (const std::size_t at = seen_.find(text); at != std::string::npos) {
                std::string before = seen_.substr(0, at + text.size());
                seen_.erase(0, before.size());
                return before;
            }
            if (!read()) return "";
        }
        return "";
    }

    // Reads on until a prompt is there that takes keys. libedit shows it before it tells the terminal not to edit lines
    // itself.
    bool prompts() {
        if (until("> ").empty()) return false;
        struct termios settings{};
        for (int i = 0; i < 3000; ++i) {
            if (::tcgetattr(master_, &settings) == 0 && (settings.c_lflag & ICANON) == 0) return true;
            ::usleep(10000);
        }
        return false;
    }

    // Reads on until so many bytes more have come.
    void until_more(std::size_t bytes) {
        for (const std::size_t enough = seen_.size() + bytes; seen_.size() < enough && read();) {
        }
    }

    int exit_status() {
        until("what never comes: the end");
        return wait();
    }

private:
    bool read() {
        struct pollfd source{master_, POLLIN, 0};
        char buffer[4096];
        const ssize_t count = ::poll(&source, 1, 30000) > 0 ? ::read(master_, buffer, sizeof buffer) : -1;
        if (count > 0) seen_.append(buffer, static_cast<std::size_t>(count));
        return count > 0;
    }

    int wait() {
        int status = 0;
        ::waitpid(child_, &status, 0);
        child_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

    int master_ = -1;
    pid_t child_ = 0;
    std::string seen_;
};

class ChatOnATerminal : public testing::Test {
protected:
    void SetUp() override {
        if (!test::has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
    }
};

TEST_F(ChatOnATerminal, EditsLines) {
    Terminal terminal(chat());
    ASSERT_NE(terminal.until("/help lists commands; Ctrl-D ends"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type("/nonsense\x7f\x7f!\r");  // two characters taken back
    ASSERT_NE(terminal.until("/nonsen! is no command"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type("\x1b[A\x7f?\r");  // the line before, changed
    ASSERT_NE(terminal.until("/nonsen? is no command"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type(
        "/gr\xc3\xbc\xc3\x9f"
        "e\x7f\x7f\r");  // characters of two bytes
    ASSERT_NE(terminal.until("/gr\xc3\xbc is no command"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type("\x04");
    EXPECT_EQ(terminal.exit_status(), 0);
}

TEST_F(ChatOnATerminal, StopsAReplyAndNotTheProgram) {
    Terminal terminal(chat({"--tokens", "1000000000", "--temperature", "0", "--template", "zephyr"}));
    ASSERT_TRUE(terminal.prompts());
    terminal.type("Hello\r");
    ASSERT_NE(terminal.until("\n"), "");
    terminal.until_more(1000);  // of a reply without an end
    terminal.type("\x03");
    ASSERT_NE(terminal.until("^C"), "");
    ASSERT_TRUE(terminal.prompts()) << "there is none again";
    terminal.type("/cache\r");
    ASSERT_NE(terminal.until("of 64 entries"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type("half a li\x03");
    ASSERT_NE(terminal.until("Ctrl-C again ends"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type("/cache\r");
    ASSERT_NE(terminal.until("of 64 entries"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type("\x03");
    ASSERT_NE(terminal.until("Ctrl-C again ends"), "");
    ASSERT_TRUE(terminal.prompts());
    terminal.type("\x03");
    EXPECT_EQ(terminal.exit_status(), 128 + SIGINT);
}

TEST(Chat, EndsWhenItIsInterruptedInAPipe) {
    for (const int signal : {SIGINT, SIGTERM}) {
        bool sent = false;
        Surroundings with;
        with.input = "Hello\nHello\n";
        with.on_text = [&](pid_t child, const Outcome& so_far) {
            if (!sent && so_far.out.size() > 50) sent = ::kill(child, signal) == 0;
        };
        const Outcome outcome =
            run(chat({"--tokens", "1000000000", "--temperature", "2", "--template", "zephyr"}), with);
        EXPECT_EQ(outcome.status, 128 + signal);
        EXPECT_TRUE(outcome.out.ends_with("\n"));
    }
}

}  // namespace
}  // namespace llama
