// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "freqkv/policy/full.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/formats/tensor_file.hpp"
#include "llama/gradient_check.hpp"
#include "llama/io/json_file.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/training/policy_attention.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_pass.hpp"

// Losses and gradients of the fixtures' models are those that transformers computes in double precision, and PEFT
// for what an adapter trains (tools/model_gradient_fixtures.py).
namespace llama {
namespace {

const std::string fixtures = FREQKV_FIXTURES_DIR;

std::vector<std::string> names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(fixtures + "/model_gradients")) {
        if (entry.path().extension() == ".json") names.push_back(entry.path().stem());
    }
    std::sort(names.begin(), names.end());
    return names;
}

std::vector<float> numbers_of(const StoredTensor& tensor) {
    std::vector<float> numbers(tensor.bytes.size() / sizeof(float));
    std::memcpy(numbers.data(), tensor.bytes.data(), tensor.bytes.size());
    return numbers;
}

// The model of that name; of an adapter with everything that it trains.
std::unique_ptr<TrainableLlama> open(const std::string& name) {
    if (!name.starts_with("adapter-")) {
        return std::make_unique<TrainableLlama>(open_checkpoint(fixtures + "/models/" + name), std::nullopt, 1);
    }
    auto model =
        std::make_unique<TrainableLlama>(open_checkpoint(fixtures + "/models/llama-mha"), LoraOptions{8, 16}, 1);
    const TensorFile adapter = read_safetensors(fixtures + "/models/" + name + "/adapter_model.safetensors");
    for (const TrainableTensor& tensor : model->tensors()) {
        const std::vector<float> numbers = numbers_of(adapter.tensors.at("base_model.model." + tensor.name));
        std::copy(numbers.begin(), numbers.end(), test::numbers_of(*model, tensor).begin());
    }
    model->refresh();
    return model;
}

class ModelGradient : public testing::TestWithParam<std::string> {};

TEST_P(ModelGradient, IsThatOfTransformers) {
    const std::string path = fixtures + "/model_gradients/" + GetParam();
    const nlohmann::json expected = read_json(path + ".json");
    const TensorFile gradients = read_safetensors(path + ".safetensors");
    const auto tokens = expected.at("tokens").get<std::vector<Token>>();
    const Example example{tokens, expected.at("first_target").get<Index>()};
    const auto targets = static_cast<double>(example.targets());
    const auto model = open(GetParam());
    const CacheSizes sizes{static_cast<Index>(tokens.size()) - 1, 0, 0};

    TrainingPass pass(*model, sizes, attention_under(freqkv::Full{}), sizes.capacity);
    std::vector<float> gradient(model->trained().size());
    const double loss = pass.run(example, static_cast<float>(1 / targets), gradient);
    EXPECT_NEAR(loss / targets, expected.at("loss").get<double>(), 1e-5);
    const double inferred = test::infer(*model, sizes, freqkv::Full{}, tokens).loss(example.first_target);
    EXPECT_NEAR(inferred, loss, 1e-5 * loss);

    EXPECT_EQ(model->tensors().size(), gradients.tensors.size());
    for (const TrainableTensor& tensor : model->tensors()) {
        SCOPED_TRACE(tensor.name);
        const auto stored = gradients.tensors.find(tensor.name);
        ASSERT_NE(stored, gradients.tensors.end());
        ASSERT_EQ(stored->second.shape, tensor.shape);
        const std::vector<float> numbers = numbers_of(stored->second);
        float largest = 0;
        for (const float number : numbers) largest = std::max(largest, std::abs(number));
        float difference = 0;
        for (std::size_t i = 0; i < numbers.size(); ++i) {
            const float actual = gradient[static_cast<std::size_t>(tensor.first) + i];
            difference = std::max(difference, std::abs(actual - numbers[i]));
        }
        EXPECT_LT(difference, 1e-4f * largest);
    }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, ModelGradient, testing::ValuesIn(names()), [](const auto& named) {
    std::string name = named.param;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

}  // namespace
}  // namespace llama
