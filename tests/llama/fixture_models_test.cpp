// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "freqkv/executor.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/formats/adapter.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/io/json_file.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/llama.hpp"
#include "llama/program/options.hpp"

// Models of random weights in every format, architecture and rotary scaling: the logits are those that
// transformers (and PEFT, for the adapters) computes in float32 from the same weights.
namespace llama {
namespace {

const std::string directory = FREQKV_FIXTURES_DIR "/models";

std::vector<std::string> names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (entry.is_regular_file() && entry.path().extension() == ".json") names.push_back(entry.path().stem());
    }
    std::sort(names.begin(), names.end());
    return names;
}

Checkpoint open(const std::string& name) {
    if (name.starts_with("adapter-")) {
        const std::string adapter = directory + "/" + name;
        const std::string base = read_json(adapter + "/adapter_config.json").at("base_model_name_or_path");
        Checkpoint checkpoint = open_checkpoint(directory + "/" + base);
        merge_adapter(checkpoint, adapter);
        return checkpoint;
    }
    return open_checkpoint(directory + "/" + name + (name.starts_with("gguf-") ? ".gguf" : ""));
}

class FixtureModel : public testing::TestWithParam<std::string> {
protected:
    FixtureModel() : expected_(read_json(directory + "/" + GetParam() + ".json")), checkpoint_(open(GetParam())) {
        tokens_ = expected_.at("tokens").get<std::vector<Token>>();
    }

    // The largest difference from the expected logits, of a model that reads the text in pieces of `chunk`.
    template <class P>
    double difference(const P& policy, Index chunk) const {
        const CacheSizes sizes{static_cast<Index>(tokens_.size()), 4, 0};
        Llama<float, P, freqkv::SerialExecutor> model(checkpoint_, sizes, policy, {});
        const auto vocabulary = static_cast<std::size_t>(checkpoint_.config.vocabulary);
        std::vector<std::vector<float>> logits;
        const auto step = static_cast<std::size_t>(chunk);
        for (std::size_t first = 0; first < tokens_.size(); first += step) {
            const std::size_t count = std::min(step, tokens_.size() - first);
            model.forward(std::span(tokens_).subspan(first, count));
            const std::span<const float> all = model.logits(0, static_cast<Index>(count));
            for (std::size_t i = 0; i < count; ++i) {
                const auto row = all.subspan(i * vocabulary, vocabulary);
                logits.emplace_back(row.begin(), row.end());
            }
        }
        const std::vector<std::size_t> positions = expected_.at("positions");
        double largest = 0;
        for (std::size_t i = 0; i < positions.size(); ++i) {
            const std::vector<double> row = expected_.at("logits").at(i);
            EXPECT_EQ(row.size(), vocabulary);
            for (std::size_t j = 0; j < std::min(row.size(), vocabulary); ++j) {
                largest = std::max(largest, std::abs(static_cast<double>(logits[positions[i]][j]) - row[j]));
            }
        }
        return largest;
    }

    nlohmann::json expected_;
    Checkpoint checkpoint_;
    std::vector<Token> tokens_;
};

TEST_P(FixtureModel, HasTheLogitsOfTransformers) {
    for (const Index chunk : {1, 7, 40}) {
        EXPECT_LT(difference(freqkv::Full{}, chunk), 1e-4) << chunk << " tokens at a time";
        EXPECT_LT(difference(freqkv::LowPass<>{}, chunk), 1e-4) << chunk << " tokens at a time, within the window";
    }
}

INSTANTIATE_TEST_SUITE_P(Models, FixtureModel, testing::ValuesIn(names()), [](const auto& name) {
    std::string title = name.param;
    std::replace_if(title.begin(), title.end(), [](char c) { return c == '-' || c == '.'; }, '_');
    return title;
});

TEST(FixtureModels, AreAllThere) { EXPECT_GE(names().size(), 51u); }

// Logits [tokens, vocabulary] of a text in pieces.
template <class P>
std::vector<float> logits_of(const Checkpoint& checkpoint, const P& policy, const CacheSizes& sizes,
                             std::span<const Token> tokens, std::size_t chunk) {
    Llama<float, P, freqkv::SerialExecutor> model(checkpoint, sizes, policy, {});
    std::vector<float> all;
    for (std::size_t first = 0; first < tokens.size(); first += chunk) {
        const std::size_t count = std::min(chunk, tokens.size() - first);
        model.forward(tokens.subspan(first, count));
        const std::span<const float> logits = model.logits(0, static_cast<Index>(count));
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

// Of a text that is many times as long as the window: what a layer with a window sees is exact, whatever becomes of the
// others' caches, and however the text is cut.
TEST(LocalLayers, DoNotDependOnThePolicy) {
    for (const char* const name : {"gemma2", "gemma3", "smollm3"}) {
        SCOPED_TRACE(name);
        Checkpoint checkpoint = open(name);
        checkpoint.config.local_layers.assign(static_cast<std::size_t>(checkpoint.config.layers), true);
        checkpoint.config.local_window = 8;
        std::vector<Token> tokens;
        for (Token t = 0; t < 300; ++t) tokens.push_back((t * t + 3 * t) % 37);
        const std::vector<float> expected = logits_of(checkpoint, freqkv::Full{}, {300, 0, 0}, tokens, 300);
        for (const std::size_t chunk : {1U, 7U, 300U}) {
            const std::vector<float> actual = logits_of(checkpoint, freqkv::LowPass<>{}, {10, 4, 0}, tokens, chunk);
            ASSERT_EQ(actual.size(), expected.size());
            for (std::size_t i = 0; i < actual.size(); ++i) {
                ASSERT_NEAR(actual[i], expected[i], 1e-4) << "logit " << i << ", chunks of " << chunk;
            }
        }
        // With a window that holds the text, the layers see what those without one see.
        if (checkpoint.config.local_rope_base > 0) continue;
        checkpoint.config.local_window = 300;
        const std::vector<float> whole = logits_of(checkpoint, freqkv::LowPass<>{}, {10, 4, 0}, tokens, 300);
        checkpoint.config.local_layers.clear();
        const std::vector<float> full = logits_of(checkpoint, freqkv::Full{}, {300, 0, 0}, tokens, 7);
        float difference = 0;
        for (std::size_t i = 0; i < full.size(); ++i) {
            ASSERT_NEAR(whole[i], full[i], 1e-4) << "logit " << i;
            difference = std::max(difference, std::abs(full[i] - expected[i]));
        }
        EXPECT_GT(difference, 0.1F) << "the window does not matter";
    }
}

TEST(SlidingWindow, IsTheLargestCapacity) {
    const Config config = read_config(directory + "/mistral-sliding");
    ASSERT_EQ(config.sliding_window, 64);
    ModelOptions options;
    EXPECT_EQ(resolve(options, config, 1000).sizes.capacity, 64) << "by default the cache takes the window's place";
    options.capacity = 65;
    EXPECT_THROW(resolve(options, config, 1000), UsageError);
    options.capacity.reset();
    options.policy = PolicyName::full;
    EXPECT_NO_THROW(resolve(options, config, 64));
    EXPECT_THROW(resolve(options, config, 65), UsageError);
}

}  // namespace
}  // namespace llama
