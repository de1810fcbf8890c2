// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "llama/gguf_writer.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

// freqkv-llama-cpp beside freqkv-llama, on a model of random numbers.
namespace llama {
namespace {

using test::Outcome;
using test::run_program;
using testing::HasSubstr;
using testing::StartsWith;

// A process `freqkv-llama-cpp worker` on a port of this machine that was free.
class Worker {
public:
    Worker() {
        const int probe = open_socket();
        EXPECT_EQ(::bind(probe, address(), sizeof address_), 0);
        socklen_t size = sizeof address_;
        ::getsockname(probe, address(), &size);
        ::close(probe);
        const std::string where = endpoint();
        const char* const command[] = {FREQKV_LLAMA_CPP, "worker", "--listen", where.c_str(),
                                       "--threads",      "1",      nullptr};
        posix_spawn_file_actions_t silent;
        ::posix_spawn_file_actions_init(&silent);
        ::posix_spawn_file_actions_addopen(&silent, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        ::posix_spawn_file_actions_addopen(&silent, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        EXPECT_EQ(::posix_spawn(&process_, command[0], &silent, nullptr, const_cast<char**>(command), environ), 0);
        ::posix_spawn_file_actions_destroy(&silent);
        wait_until_it_listens();
    }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    ~Worker() {
        ::kill(process_, SIGKILL);
        ::waitpid(process_, nullptr, 0);
    }

    std::string endpoint() const { return "127.0.0.1:" + std::to_string(ntohs(address_.sin_port)); }

private:
    static int open_socket() { return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }
    sockaddr* address() { return reinterpret_cast<sockaddr*>(&address_); }
    void wait_until_it_listens() {
        for (int tries = 0; tries < 400; ++tries) {
            const int probe = open_socket();
            const bool listens = ::connect(probe, address(), sizeof address_) == 0;
            ::close(probe);
            if (listens) return;
            std::this_thread::sleep_for(std::chrono::milliseconds(25));
        }
        ADD_FAILURE() << "no worker listens at " << endpoint();
    }

    sockaddr_in address_{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    pid_t process_ = 0;
};

class LlamaCppProgram : public testing::Test {
protected:
    LlamaCppProgram() {
        test::GgufModelOptions options;
        options.dim = 128, options.heads = 2, options.kv_heads = 1, options.hidden = 64, options.vocabulary = 40;
        model_ = files_.write("model.gguf", test::small_gguf(options).bytes());
        std::string ids;
        for (int i = 0; i < 1500; ++i) ids += std::to_string((i * i + 7 * i) % 40) + " ";
        ids_ = files_.write("ids.txt", ids);
    }

    std::vector<std::string> perplexity(const std::string& program, const std::vector<std::string>& options) const {
        std::vector<std::string> command{program, "perplexity", "--model", model_, "--token-file", ids_, "--json", "-"};
        command.insert(command.end(), options.begin(), options.end());
        return command;
    }

    static nlohmann::json result_of(const std::vector<std::string>& command) {
        const Outcome outcome = run_program(command);
        EXPECT_EQ(outcome.status, 0) << outcome.err;
        return nlohmann::json::parse(outcome.out, nullptr, false);
    }

    std::string refusal(const std::vector<std::string>& options) const {
        const Outcome outcome = run_program(perplexity(FREQKV_LLAMA_CPP, options));
        EXPECT_NE(outcome.status, 0);
        EXPECT_THAT(outcome.err, StartsWith("freqkv-llama-cpp: "));
        return outcome.err;
    }

    test::TemporaryDirectory files_;
    std::string model_;
    std::string ids_;
};

TEST_F(LlamaCppProgram, PredictsLikeTheReferenceLlama) {
    const std::vector<std::string> bounded{"--policy", "low-pass", "--capacity", "256", "--cache-type", "f32"};
    const nlohmann::json theirs = result_of(perplexity(FREQKV_LLAMA_CPP, bounded));
    const nlohmann::json ours = result_of(perplexity(FREQKV_LLAMA, bounded));
    EXPECT_NEAR(theirs.at("perplexity").get<double>() / ours.at("perplexity").get<double>(), 1, 1e-3);
    EXPECT_EQ(theirs.at("cache_bytes"), ours.at("cache_bytes"));
}

TEST_F(LlamaCppProgram, CompressesCachesThatLieWithWorkers) {
    const std::vector<std::string> bounded{"--policy", "low-pass", "--capacity", "256", "--cache-type", "f32"};
    const nlohmann::json here = result_of(perplexity(FREQKV_LLAMA_CPP, bounded));
    const Worker first, second;  // with a layer each
    std::vector<std::string> shared = bounded;
    shared.insert(shared.end(), {"--rpc", first.endpoint() + "," + second.endpoint()});
    const nlohmann::json there = result_of(perplexity(FREQKV_LLAMA_CPP, shared));
    EXPECT_NEAR(there.at("perplexity").get<double>() / here.at("perplexity").get<double>(), 1, 1e-4);
    EXPECT_EQ(there.at("compressions"), here.at("compressions"));
    EXPECT_GE(there.at("compressions"), 8);
}

TEST_F(LlamaCppProgram, SaysThatAWorkerIsNotThere) {
    std::string nobody;
    {
        const Worker gone;
        nobody = gone.endpoint();
    }
    EXPECT_THAT(refusal({"--capacity", "256", "--rpc", nobody}), HasSubstr("Failed to connect to " + nobody));
}

TEST_F(LlamaCppProgram, RefusesByNameWhatLibllamaHasNot) {
    EXPECT_THAT(refusal({"--policy", "h2o", "--capacity", "256"}), HasSubstr("--policy h2o is not among those"));
    EXPECT_THAT(refusal({"--capacity", "300"}), HasSubstr("multiples of 256 entries; --capacity 512"));
    EXPECT_THAT(refusal({"--capacity", "256", "--cache-type", "q2"}), HasSubstr("--cache-type q2: libllama has f32"));
    EXPECT_THAT(refusal({"--capacity", "256", "--positions", "text"}), HasSubstr("--positions text"));
    EXPECT_THAT(refusal({"--capacity", "256", "--adapter", "somewhere"}), HasSubstr("adapter"));
}

}  // namespace
}  // namespace llama
