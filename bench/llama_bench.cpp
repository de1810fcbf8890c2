// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ceilings.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/random_checkpoint.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/language_model.hpp"
#include "llama/model/loss.hpp"
#include "llama/model/matrix_product.hpp"
#include "llama/model/random.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/host_models.hpp"

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

std::unique_ptr<llama::LanguageModel> make_model(Index threads) {
    return llama::make_host_model(checkpoint(),
                                  {llama::PolicyName::low_pass, llama::CacheType::f32, {capacity, 4, 0}, 0.5},
                                  static_cast<int>(threads));
}

// One token at a time, the cache between half and full.
void decode(benchmark::State& state) {
    const std::unique_ptr<llama::LanguageModel> model = make_model(state.range(0));
    const std::vector<Token> tokens = some_tokens(600);
    model->forward(tokens);
    const double seconds = ceilings::fastest(state, [&] {
        model->forward({&tokens[5], 1});
        benchmark::DoNotOptimize(model->logits().data());
    });
    const double rate = 4e-9 * static_cast<double>(llama::count_parameters(checkpoint().config)) / seconds;
    state.counters["tokens/s"] = 1 / seconds;
    state.counters["weights_GB/s"] = rate;
    state.counters["of_read"] = rate / ceilings::read_bandwidth();
}

// Chunks of 512 tokens, a compression or two in each.
void prefill(benchmark::State& state) {
    const std::unique_ptr<llama::LanguageModel> model = make_model(state.range(0));
    const std::vector<Token> tokens = some_tokens(512);
    model->forward(tokens);
    const double seconds = ceilings::fastest(state, [&] {
        model->forward(tokens);
        benchmark::DoNotOptimize(model->logits().data());
    });
    const double work = 512 * 2e-9 * static_cast<double>(llama::count_parameters(checkpoint().config));
    state.counters["tokens/s"] = 512 / seconds;
    state.counters["of_sgemm"] = work / seconds / ceilings::sgemm_rate();
}

// The product with one token of 16384 x 4096 weights of one type, far more than the caches hold, on one thread.
void product(benchmark::State& state, llama::WeightType type, llama::Arithmetic arithmetic) {
    constexpr Index rows = 16384;
    constexpr Index columns = 4096;
    llama::Weights weights{nullptr, type, rows, columns};
    // Bits that are no large number, NaN or infinity in any of the types.
    freqkv::AlignedBuffer<std::byte> bytes(weights.bytes());
    llama::Random random(1);
    for (Index i = 0; i < bytes.size(); ++i) bytes.data()[i] = static_cast<std::byte>(random.next() & 0x3b);
    weights.data = bytes.data();
    std::vector<float> x(columns), row(columns), y(rows);
    for (float& value : x) value = static_cast<float>(random.uniform() - 0.5);
    const auto multiply = [&] {
        llama::multiply({{weights, y.data()}}, x.data(), 1, freqkv::SerialExecutor{}, arithmetic);
    };
    multiply();
    for (const Index r : {Index{0}, rows - 1}) {
        llama::dequantize(weights, r, 0, columns, row.data());
        double sum = 0, size = 0;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const double term = static_cast<double>(row[i]) * static_cast<double>(x[i]);
            sum += term;
            size += std::abs(term);
        }
        ceilings::require(std::abs(static_cast<double>(y[static_cast<std::size_t>(r)]) - sum) <=
                              (arithmetic == llama::Arithmetic::exact ? 1e-5 : 1e-2) * size,
                          std::string("product of ") + llama::format_of(type).name);
    }
    const double seconds = ceilings::fastest(state, multiply);
    const double rate = static_cast<double>(weights.bytes()) / seconds * 1e-9;
    state.counters["weights/ns"] = static_cast<double>(rows * columns) / seconds * 1e-9;
    state.counters["GB/s"] = rate;
    state.counters["of_read"] = rate / ceilings::read_bandwidth();
}

// The same text in chunks and token by token, past the window.
void check_chunks() {
    const std::vector<Token> tokens = some_tokens(700);
    const auto losses = [&](Index chunk) {
        const std::unique_ptr<llama::LanguageModel> model = make_model(1);
        std::vector<double> nll;
        llama::append_losses(*model, tokens, chunk, nll, [](Index) { return true; });
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
    for (std::size_t i = 0; i < llama::weight_types; ++i) {
        const auto type = static_cast<llama::WeightType>(i);
        for (const auto& [name, arithmetic] : {std::pair{"product/", llama::Arithmetic::exact},
                                               std::pair{"rounded_product/", llama::Arithmetic::rounded}}) {
            benchmark::RegisterBenchmark((std::string(name) + llama::format_of(type).name).c_str(), product, type,
                                         arithmetic)
                ->Unit(benchmark::kMillisecond)
                ->UseManualTime();
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    check_chunks();
    register_all();
    return ceilings::run(argc, argv);
}
