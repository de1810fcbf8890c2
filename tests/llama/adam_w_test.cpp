// SPDX-License-Identifier: MIT
#include "llama/training/adam_w.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "freqkv/executor.hpp"
#include "llama/model/random.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/training/trainable_llama.hpp"

namespace llama {
namespace {

// Tensors of 24 to 1200 numbers, more than what is updated at once.
Config small_config() {
    Config config;
    config.dim = 24;
    config.hidden = 30;
    config.layers = 1;
    config.heads = 2;
    config.kv_heads = 1;
    config.head_dim = 12;
    config.vocabulary = 50;
    config.context = 16;
    config.attention_bias = true;
    return config;
}

std::vector<float> random_gradient(std::size_t count, std::uint64_t seed) {
    Random random(seed);
    std::vector<float> gradient(count);
    // Some numbers have no gradient, at first or at all.
    for (std::size_t i = 0; i < count; ++i) {
        const auto value = static_cast<float>(random.uniform() - 0.5);
        gradient[i] = i % 7 == 0 || (i % 5 == 0 && seed < 3) ? 0.0f : value;
    }
    return gradient;
}

// Algorithm 2 of Loshchilov and Hutter, number by number.
struct NaiveAdamW {
    AdamWOptions options;
    std::vector<double> values, m, v;
    std::vector<bool> decays;

    NaiveAdamW(const TrainableLlama& model, const AdamWOptions& options_)
        : options(options_),
          values(model.trained().begin(), model.trained().end()),
          m(values.size(), 0.0),
          v(values.size(), 0.0) {
        for (const TrainableTensor& tensor : model.tensors()) {
            const bool matrix = tensor.name.find("norm") == std::string::npos && !tensor.name.ends_with(".bias");
            decays.insert(decays.end(), static_cast<std::size_t>(tensor.size), matrix);
        }
    }

    void update(const std::vector<float>& gradient, double factor, double learning_rate, int step) {
        const auto [beta1, beta2, epsilon, weight_decay] = options;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double g = factor * static_cast<double>(gradient[i]);
            m[i] = beta1 * m[i] + (1 - beta1) * g;
            v[i] = beta2 * v[i] + (1 - beta2) * g * g;
            const double mean = m[i] / (1 - std::pow(beta1, step));
            const double square = v[i] / (1 - std::pow(beta2, step));
            const double decay = decays[i] ? weight_decay * values[i] : 0;
            values[i] -= learning_rate * (mean / (std::sqrt(square) + epsilon) + decay);
        }
    }
};

void expect_near(const char* what, std::span<const float> actual, const std::vector<double>& expected, double error) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], error) << what << ", number " << i;
    }
}

TEST(AdamW, IsTheAlgorithmOfItsPaper) {
    const AdamWOptions cases[] = {
        {0.9, 0.95, 1e-8, 0.1},
        {0.9, 0.999, 1e-3, 0},
        {0, 0, 1e-8, 2},  // signs of the gradient, and a decay that is easily seen
    };
    for (const AdamWOptions& options : cases) {
        SCOPED_TRACE(testing::Message() << "betas " << options.beta1 << " and " << options.beta2);
        TrainableLlama model(small_config(), 1);
        NaiveAdamW naive(model, options);
        AdamW optimizer(static_cast<Index>(model.trained().size()), options);
        for (int step = 1; step <= 6; ++step) {
            SCOPED_TRACE(testing::Message() << "step " << step);
            const auto gradient = random_gradient(model.trained().size(), static_cast<std::uint64_t>(step));
            const double factor = step % 2 == 0 ? 1 : 0.25;
            const double rate = 0.01 * step;
            optimizer.update(model, gradient, factor, rate, step, freqkv::SerialExecutor{});
            naive.update(gradient, factor, rate, step);
            expect_near("first moment", optimizer.first(), naive.m, 1e-7);
            expect_near("second moment", optimizer.second(), naive.v, 1e-7);
            expect_near("values", model.trained(), naive.values, 2e-6);
        }
    }
}

TEST(AdamW, DecaysMatricesOnly) {
    TrainableLlama model(small_config(), 1);
    for (float& number : model.trained()) number = 2;
    const std::vector<float> gradient(model.trained().size(), 0.0f);
    AdamW optimizer(static_cast<Index>(gradient.size()), {.weight_decay = 0.5});
    optimizer.update(model, gradient, 1, 0.25, 1, freqkv::SerialExecutor{});
    int decayed = 0, kept = 0;
    for (const TrainableTensor& tensor : model.tensors()) {
        const bool matrix = !tensor.name.ends_with("norm.weight") && !tensor.name.ends_with(".bias");
        for (Index i = tensor.first; i < tensor.first + tensor.size; ++i) {
            ASSERT_EQ(model.trained()[static_cast<std::size_t>(i)], matrix ? 1.75f : 2.0f) << tensor.name;
        }
        ++(matrix ? decayed : kept);
    }
    EXPECT_EQ(decayed, 9) << "embedding, classifier, and the seven matrices of a layer";
    EXPECT_EQ(kept, 6) << "three norms and three biases";
}

TEST(AdamW, DoesNotDependOnThreads) {
    std::vector<float> alone;
    for (const int threads : {1, 2, 3}) {
        TrainableLlama model(small_config(), 1);
        const ThreadExecutor executor = make_executor(threads);
        AdamW optimizer(static_cast<Index>(model.trained().size()), {.weight_decay = 0.1});
        for (int step = 1; step <= 3; ++step) {
            const auto gradient = random_gradient(model.trained().size(), static_cast<std::uint64_t>(step));
            optimizer.update(model, gradient, 0.5, 0.01, step, executor);
        }
        if (alone.empty()) alone.assign(model.trained().begin(), model.trained().end());
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), model.trained().begin())) << threads << " threads";
    }
}

}  // namespace
}  // namespace llama
