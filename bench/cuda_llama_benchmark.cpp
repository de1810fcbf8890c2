// SPDX-License-Identifier: MIT
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "freqkv/cuda/status.cuh"
#include "llama/cuda/device_llama.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/config.hpp"
#include "llama/model/language_model.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/model/random.hpp"
#include "llama/model/weights.hpp"
#include "llama/program/host_models.hpp"
#include "llama/program/json_output.hpp"

// Tokens per second of the reference Llama on a GPU behind 4,096 and 65,536 tokens of text: random weights of a known
// shape in F16, a cache of 4096 entries in F16, one sequence, logits read after every token.
//
// Two models, one behind each text, take turns by blocks of tokens, over whole cycles: from one compression to the
// next, so that compressing counts. For comparison a third one, whose cache grows ("full"), behind both texts.
//
// Before anything is timed, the logits behind a few tokens are compared with those of the host's Llama, and those
// behind a compression of a text in chunks with those of the same text whose last tokens came one by one.
namespace {

using llama::Index;
using llama::Token;
using Clock = std::chrono::steady_clock;

struct Shape {
    const char* name;
    llama::Config config;
    Index capacity;
    std::array<Index, 2> texts;  // tokens before what is timed
    Index chunk;                 // tokens that are fed at once
    Index block;                 // tokens until the other model's turn
    Index cycles;
    Index full_tokens;  // timed under policy "full"
};

llama::Config config_of(Index dim, Index hidden, Index layers, Index heads, Index kv_heads, Index vocabulary,
                        bool shared_classifier) {
    llama::Config config;
    config.dim = dim;
    config.hidden = hidden;
    config.layers = layers;
    config.heads = heads;
    config.kv_heads = kv_heads;
    config.head_dim = dim / heads;
    config.vocabulary = vocabulary;
    config.context = 4096;
    config.shared_classifier = shared_classifier;
    config.rope_pairing = freqkv::RopePairing::half_split;
    return config;
}

constexpr Index sinks = 4;
constexpr double ratio = 0.5;
constexpr llama::WeightType type = llama::WeightType::f16;

// Of which the first one that fits the GPU's memory is measured.
std::vector<Shape> shapes(bool smoke) {
    if (smoke) return {{"small", config_of(256, 352, 2, 4, 2, 512, true), 64, {64, 300}, 32, 10, 2, 20}};
    const std::array<Index, 2> texts{4096, 65536};
    return {{"LLaMA-2-7B", config_of(4096, 11008, 32, 32, 32, 32000, false), 4096, texts, 2048, 186, 2, 256},
            {"Llama-3.2-1B", config_of(2048, 8192, 16, 32, 8, 128256, true), 4096, texts, 2048, 186, 2, 256}};
}

// Tokens from one compression to the next.
Index cycle_of(const Shape& shape) { return shape.capacity - sinks - (shape.capacity - sinks) / 2; }

// --- weights

// Matrix elements are uniform with variance 1 / columns, so that activations keep their size. Matrices are parts of one
// array for each number of columns, from different places on, so they differ although the array is not much larger than
// the largest of them.
llama::Checkpoint random_weights(const Shape& shape) {
    llama::Checkpoint checkpoint;
    checkpoint.path = shape.name;
    checkpoint.format = "random F16";
    llama::Config& config = checkpoint.config = shape.config;
    constexpr Index places = Index{1} << 20;
    llama::Random random(1);
    const auto fill = [&](Index rows, Index columns) {
        const Index count = rows * columns + places;
        std::byte* const bytes = checkpoint.allocate(count * llama::format_of(type).bytes);
        const double width = std::sqrt(12.0 / static_cast<double>(columns));
        std::vector<float> some(4096);
        for (Index first = 0; first < count; first += static_cast<Index>(some.size())) {
            const Index part = std::min(count - first, static_cast<Index>(some.size()));
            for (float& value : some) value = static_cast<float>((random.uniform() - 0.5) * width);
            llama::from_floats(some.data(), type, part, bytes + first * llama::format_of(type).bytes);
        }
        return bytes;
    };
    const Index most_rows = std::max({config.vocabulary, config.hidden, config.query_dim()});
    const std::byte* const narrow = fill(most_rows, config.dim);
    const std::byte* const wide = fill(config.dim, std::max(config.hidden, config.query_dim()));
    Index made = 0;
    const auto matrix = [&](Index rows, Index columns) {
        const Index place = made++ * 4099 % places;
        const std::byte* const from = columns == config.dim ? narrow : wide;
        return llama::Weights{from + place * llama::format_of(type).bytes, type, rows, columns};
    };
    float* const ones = checkpoint.allocate_floats(config.dim);
    std::fill_n(ones, config.dim, 1.0F);
    checkpoint.embedding = checkpoint.classifier = matrix(config.vocabulary, config.dim);
    if (!config.shared_classifier) checkpoint.classifier = matrix(config.vocabulary, config.dim);
    checkpoint.final_norm = ones;
    for (Index l = 0; l < config.layers; ++l) {
        llama::LayerWeights& layer = checkpoint.layers.emplace_back();
        layer.attention_norm = layer.ffn_norm = ones;
        layer.wq = matrix(config.query_dim(), config.dim);
        layer.wk = matrix(config.kv_dim(), config.dim);
        layer.wv = matrix(config.kv_dim(), config.dim);
        layer.wo = matrix(config.dim, config.query_dim());
        layer.gate = matrix(config.hidden, config.dim);
        layer.up = matrix(config.hidden, config.dim);
        layer.down = matrix(config.dim, config.hidden);
    }
    return checkpoint;
}

// --- text

// Random tokens, the same for every model.
class Text {
public:
    explicit Text(const llama::Config& config) : vocabulary_(config.vocabulary) {}

    std::vector<Token> tokens(Index first, Index count) const {
        std::vector<Token> result;
        for (Index i = first; i < first + count; ++i) {
            result.push_back(static_cast<Token>(llama::Random(static_cast<std::uint64_t>(i)).next() %
                                                static_cast<std::uint64_t>(vocabulary_)));
        }
        return result;
    }

    // Tokens [first, last) in chunks.
    template <class Model>
    void feed(Model& model, Index first, Index last, Index chunk) const {
        for (; first < last; first += chunk) model.forward(tokens(first, std::min(chunk, last - first)));
    }

private:
    Index vocabulary_;
};

// A model behind `tokens` tokens of the text.
struct Run {
    std::unique_ptr<llama::LanguageModel> model;
    Text text;
    Index tokens = 0;

    void feed(Index until, Index chunk) {
        text.feed(*model, tokens, until, chunk);
        tokens = until;
    }

    // Seconds of `count` single tokens, with their logits. The text is made before.
    double generate(Index count) {
        const std::vector<Token> next = text.tokens(tokens, count);
        const auto start = Clock::now();
        for (const Token& token : next) {
            model->forward({&token, 1});
            (void)model->logits();
        }
        tokens += count;
        return std::chrono::duration<double>(Clock::now() - start).count();
    }
};

// The GPU's memory is too small.
class NoRoom : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

Run open(const llama::Checkpoint& checkpoint, const Shape& shape, llama::PolicyName policy, Index capacity) {
    llama::DeviceSettings settings;
    settings.policy = policy;
    settings.ratio = ratio;
    settings.sizes = {capacity, sinks, 0};
    settings.type = llama::CacheType::f16;
    settings.chunk = shape.chunk;
    try {
        return {llama::open_device_llama(checkpoint, settings), Text(shape.config)};
    } catch (const freqkv::cuda::CudaError&) {
        throw;
    } catch (const std::runtime_error& error) {
        throw NoRoom(error.what());
    }
}

// --- what is right

constexpr double allowed_error = 2e-2;  // of a logit, over the largest one; activations are rounded to F16 all along

void compare(const std::string& what, std::span<const float> actual, std::span<const float> expected) {
    double difference = 0, largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double error = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
        if (!std::isfinite(error)) throw std::runtime_error("wrong result: logits of " + what + " are no numbers");
        difference = std::max(difference, error);
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    }
    std::fprintf(stderr, "logits of %s: relative error %.1e\n", what.c_str(), difference / largest);
    if (!(difference <= allowed_error * largest)) {
        throw std::runtime_error("wrong result: logits of " + what + " have a relative error of " +
                                 std::to_string(difference / largest));
    }
}

void check(const llama::Checkpoint& checkpoint, const Shape& shape, Run& run, int threads) {
    llama::LanguageModel& model = *run.model;
    const std::vector<Token> few = run.text.tokens(0, 4);
    {
        const std::unique_ptr<llama::LanguageModel> host = llama::make_host_model(
            checkpoint, {llama::PolicyName::low_pass, llama::CacheType::f32, {64, sinks, 0}, ratio}, threads);
        host->forward(few);
        model.forward(few);
        compare("4 tokens, beside the host's Llama", model.logits(), host->logits());
        model.clear();
    }
    const Index single = 6, length = shape.capacity + 2 * single;
    run.text.feed(model, 0, length, shape.chunk);
    const std::span<const float> logits = model.logits();
    const std::vector<float> expected(logits.begin(), logits.end());
    model.clear();
    run.text.feed(model, 0, length - single, shape.chunk);
    run.text.feed(model, length - single, length, 1);
    compare(std::to_string(length) + " tokens, the last of them one by one, beside chunks", model.logits(), expected);
    model.clear();
}

// --- the measurement

nlohmann::ordered_json result_of(const Shape& shape, llama::PolicyName policy, Index before, Index tokens,
                                 const std::vector<double>& seconds, const llama::LanguageModel& model) {
    double all = 0;
    nlohmann::ordered_json rates = nlohmann::ordered_json::array();
    for (const double part : seconds) {
        all += part;
        rates.push_back(static_cast<double>(tokens) / part);
    }
    const double rate = static_cast<double>(tokens) * static_cast<double>(seconds.size()) / all;
    std::fprintf(stderr, "%s, %s, %lld tokens before: %.1f tokens/s, %lld entries, %lld MiB of caches\n", shape.name,
                 to_string(policy), static_cast<long long>(before), rate, static_cast<long long>(model.cache(0).size()),
                 static_cast<long long>(model.cache_bytes() >> 20));
    return {{"model", shape.name},
            {"policy", to_string(policy)},
            {"tokens_before", before},
            {"tokens", tokens * static_cast<Index>(seconds.size())},
            {"tokens_per_s", rate},
            {"tokens_per_s_of_cycles", rates},
            {"entries", model.cache(0).size()},
            {"compressions", model.cache(0).compressions()},
            {"cache_bytes", model.cache_bytes()}};
}

// Throws NoRoom if both models do not fit.
nlohmann::ordered_json measure_bounded(const llama::Checkpoint& checkpoint, const Shape& shape, int threads) {
    constexpr llama::PolicyName policy = llama::PolicyName::low_pass;
    std::array<Run, 2> runs{open(checkpoint, shape, policy, shape.capacity),
                            open(checkpoint, shape, policy, shape.capacity)};
    check(checkpoint, shape, runs[0], threads);
    for (std::size_t i = 0; i < runs.size(); ++i) {
        std::fprintf(stderr, "%s: feeding %lld tokens\n", shape.name, static_cast<long long>(shape.texts[i]));
        runs[i].feed(shape.texts[i], shape.chunk);
        (void)runs[i].generate(3);  // after these nothing is loaded, captured or allocated
    }
    const Index cycle = cycle_of(shape);
    std::array<std::vector<double>, 2> seconds;
    for (Index c = 0; c < shape.cycles; ++c) {
        std::array<Index, 2> compressions{};
        for (std::size_t i = 0; i < runs.size(); ++i) {
            compressions[i] = runs[i].model->cache(0).compressions();
            seconds[i].push_back(0);
        }
        for (Index done = 0; done < cycle; done += shape.block) {
            for (std::size_t i = 0; i < runs.size(); ++i) {
                seconds[i].back() += runs[i].generate(std::min(shape.block, cycle - done));
            }
        }
        for (std::size_t i = 0; i < runs.size(); ++i) {
            const Index times = runs[i].model->cache(0).compressions() - compressions[i];
            if (times != 1) {
                throw std::runtime_error("wrong result: " + std::to_string(times) + " compressions in " +
                                         std::to_string(cycle) + " tokens, must be 1");
            }
        }
    }
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < runs.size(); ++i) {
        results.push_back(result_of(shape, policy, shape.texts[i], cycle, seconds[i], *runs[i].model));
    }
    return results;
}

void measure_full(const llama::Checkpoint& checkpoint, const Shape& shape, nlohmann::ordered_json& results) {
    const Index warm_up = 3;
    Run run = open(checkpoint, shape, llama::PolicyName::full, shape.texts.back() + warm_up + shape.full_tokens);
    for (const Index before : shape.texts) {
        std::fprintf(stderr, "%s with a full cache: feeding %lld tokens\n", shape.name, static_cast<long long>(before));
        run.feed(before, shape.chunk);
        (void)run.generate(warm_up);
        const std::vector<double> seconds{run.generate(shape.full_tokens)};
        if (run.model->cache(0).size() != run.tokens)
            throw std::runtime_error("wrong result: the full cache has lost entries");
        results.push_back(result_of(shape, llama::PolicyName::full, before, shape.full_tokens, seconds, *run.model));
    }
}

std::string device_name() {
    cudaDeviceProp device{};
    return cudaGetDeviceProperties(&device, 0) == cudaSuccess ? device.name : "unknown";
}

void run(const std::string& json_path, bool smoke, int threads) {
    const llama::JsonOutput output(json_path);
    llama::check_device();
    nlohmann::ordered_json results;
    std::string refusal;
    for (const Shape& shape : shapes(smoke)) {
        const llama::Checkpoint checkpoint = random_weights(shape);
        try {
            results = measure_bounded(checkpoint, shape, threads);
        } catch (const NoRoom& error) {
            refusal = error.what();
            std::fprintf(stderr, "%s is left out: %s\n", shape.name, refusal.c_str());
            continue;
        }
        std::exception_ptr failure;  // of the comparison, which is no reason to lose what has been measured
        try {
            measure_full(checkpoint, shape, results);
        } catch (const NoRoom& error) {
            std::fprintf(stderr, "%s with a full cache is left out: %s\n", shape.name, error.what());
        } catch (...) {
            failure = std::current_exception();
        }
        output.write({{"device", device_name()}, {"results", results}});
        if (failure) std::rethrow_exception(failure);
        return;
    }
    throw NoRoom(refusal);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Measure tokens per second of the reference Llama on a GPU, behind a short and a long text.",
                 "cuda_llama_benchmark");
    std::string json;
    bool smoke = false;
    int threads = 0;
    app.add_option("--json", json, "File for the results, \"-\" for standard output")->type_name("FILE");
    app.add_flag("--smoke", smoke, "A small model and short texts, to see that everything runs");
    app.add_option("--threads", threads, "Threads of the host's Llama, with which some logits are compared; 0: all");
    CLI11_PARSE(app, argc, argv);
    try {
        run(json, smoke, threads);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "cuda_llama_benchmark: %s\n", error.what());
        return 1;
    }
}
