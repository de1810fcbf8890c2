// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "ceilings.hpp"
#include "llama/checkpoint.hpp"
#include "llama/llama.hpp"
#include "llama/loss.hpp"
#include "llama/random_checkpoint.hpp"
#include "llama/with_model.hpp"

// A Llama of 29 million random weights, on one thread and on all.
namespace {

using llama::Index;
using llama::Token;

constexpr Index capacity = 512;

// A checkpoint in the temporary directory, removed at the end.
class TemporaryCheckpoint {
public:
    TemporaryCheckpoint() : path_(std::filesystem::temp_directory_path() / "freqkv-llama-bench.bin") {
        llama::Config config;
        config.dim = 512;
        config.hidden = 1376;
        config.layers = 8;
        config.heads = 8;
        config.kv_heads = 8;
        config.vocabulary = 4096;
        config.context = capacity;
        config.shared_classifier = true;
        std::ofstream(path_, std::ios::binary)
            << llama::random_checkpoint(config, llama::CheckpointFormat::version_1, 1);
    }
    ~TemporaryCheckpoint() {
        std::error_code ignored;
        std::filesystem::remove(path_, ignored);
    }
    TemporaryCheckpoint(const TemporaryCheckpoint&) = delete;
    TemporaryCheckpoint& operator=(const TemporaryCheckpoint&) = delete;
    std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

const llama::Checkpoint& checkpoint() {
    static const TemporaryCheckpoint file;
    static const llama::Checkpoint checkpoint = llama::open_checkpoint(file.path());
    return checkpoint;
}

std::vector<Token> some_tokens(Index count) {
    std::vector<Token> tokens;
    tokens.reserve(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) tokens.push_back(static_cast<Token>(7 * i * i % 4096));
    return tokens;
}

using Model = llama::Llama<float, freqkv::LowPass<>, llama::ThreadExecutor>;

Model make_model(Index threads) {
    return {checkpoint(), {capacity, 4, 0}, freqkv::LowPass<>(0.5), llama::make_executor(static_cast<int>(threads))};
}

// One token at a time, the cache between half and full.
void decode(benchmark::State& state) {
    Model model = make_model(state.range(0));
    const std::vector<Token> tokens = some_tokens(600);
    model.forward(tokens);
    const double seconds = ceilings::fastest(state, [&] {
        model.forward({&tokens[5], 1});
        benchmark::DoNotOptimize(model.logits().data());
    });
    const double rate = 4e-9 * static_cast<double>(llama::count_parameters(checkpoint().config)) / seconds;
    state.counters["tokens/s"] = 1 / seconds;
    state.counters["weights_GB/s"] = rate;
    state.counters["of_read"] = rate / ceilings::read_bandwidth();
}

// Chunks of 512 tokens, a compression or two in each.
void prefill(benchmark::State& state) {
    Model model = make_model(state.range(0));
    const std::vector<Token> tokens = some_tokens(512);
    model.forward(tokens);
    const double seconds = ceilings::fastest(state, [&] {
        model.forward(tokens);
        benchmark::DoNotOptimize(model.logits().data());
    });
    const double work = 512 * 2e-9 * static_cast<double>(llama::count_parameters(checkpoint().config));
    state.counters["tokens/s"] = 512 / seconds;
    state.counters["of_sgemm"] = work / seconds / ceilings::sgemm_rate();
}

// The same text in chunks and token by token, past the window.
void check_chunks() {
    const std::vector<Token> tokens = some_tokens(700);
    const auto losses = [&](Index chunk) {
        Model model = make_model(1);
        std::vector<double> nll;
        llama::append_losses(model, tokens, chunk, nll, [](Index) { return true; });
        return nll;
    };
    const std::vector<double> one_by_one = losses(1);
    const std::vector<double> chunks = losses(512);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        ceilings::require(std::abs(one_by_one[i] - chunks[i]) < 1e-3, "loss of token " + std::to_string(i + 1));
    }
}

void register_all() {
    const int cores = static_cast<int>(llama::make_executor(0).concurrency());
    for (auto* bench :
         {benchmark::RegisterBenchmark("decode", decode), benchmark::RegisterBenchmark("prefill", prefill)}) {
        bench->ArgName("threads")->Arg(1)->Unit(benchmark::kMillisecond)->UseManualTime();
        if (cores > 1) bench->Arg(cores);
    }
}

}  // namespace

int main(int argc, char** argv) {
    check_chunks();
    register_all();
    return ceilings::run(argc, argv);
}
