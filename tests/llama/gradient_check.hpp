// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <span>
#include <vector>

#include "freqkv/executor.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/loss.hpp"
#include "llama/model/random.hpp"
#include "llama/training/policy_attention.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_data.hpp"
#include "llama/training/training_pass.hpp"

// What checks the gradients of a whole model: small models, texts, the loss of inference, finite differences.
namespace llama::test {

// Grouped heads, whose width is not the model's.
inline Config small_llama() {
    Config config;
    config.dim = 24;
    config.hidden = 20;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 8;
    config.vocabulary = 40;
    config.context = 64;
    config.rope_pairing = freqkv::RopePairing::half_split;
    return config;
}

inline double normal(Random& random) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

inline std::span<float> numbers_of(TrainableLlama& model, const TrainableTensor& tensor) {
    return model.trained().subspan(static_cast<std::size_t>(tensor.first), static_cast<std::size_t>(tensor.size));
}

// Numbers at which logits are of order 1, attention is uneven and nothing is zero.
inline void randomise(TrainableLlama& model, std::uint64_t seed) {
    Random random(seed);
    for (const TrainableTensor& tensor : model.tensors()) {
        const bool norm = tensor.name.ends_with("norm.weight");
        double width = tensor.is_matrix() ? 1.2 / std::sqrt(static_cast<double>(tensor.shape[1])) : 0.2;
        if (tensor.name == "model.embed_tokens.weight") width = 1;
        if (tensor.name.ends_with("lora_B.weight")) width = 0.15;
        for (float& number : numbers_of(model, tensor)) {
            number = static_cast<float>((norm ? 1 : 0) + width * normal(random));
        }
    }
    model.refresh();
}

inline std::vector<Token> random_text(Index count, Index vocabulary, std::uint64_t seed) {
    Random random(seed);
    std::vector<Token> tokens(static_cast<std::size_t>(count));
    for (Token& token : tokens) {
        token = static_cast<Token>(random.next() % static_cast<std::uint64_t>(vocabulary));
    }
    return tokens;
}

// What the model that generates text makes of each target, and how often it compressed.
struct Inference {
    std::vector<double> losses;
    Index compressions = 0;

    double loss(Index first_target) const {
        return std::accumulate(losses.begin() + first_target - 1, losses.end(), 0.0);
    }
};

template <class P>
Inference infer(const TrainableLlama& trained, const CacheSizes& sizes, const P& policy, std::span<const Token> text) {
    Llama<float, P, freqkv::SerialExecutor> model(trained.checkpoint(), sizes, policy, {});
    Inference inference;
    append_losses(model, text, 7, inference.losses, [](Index) { return true; });
    inference.compressions = model.cache(0).compressions();
    return inference;
}

// The gradient that training finds against differences of its loss. In each tensor these are taken along the gradient
// itself and along random directions of length 1, whose mean squared error, times the tensor's size, estimates that of
// the whole gradient.
class GradientCheck {
public:
    template <class P>
    GradientCheck(TrainableLlama& model, const CacheSizes& sizes, const P& policy, const Example& example)
        : model_(model),
          example_(example),
          pass_(model, sizes, attention_under(policy), static_cast<Index>(example.tokens.size()) - 1),
          gradient_(model.trained().size()) {
        pass_.run(example, 1, gradient_);
    }

    void expect_gradient_of_loss() {
        for (const TrainableTensor& tensor : model_.tensors()) {
            SCOPED_TRACE(tensor.name);
            const auto first = gradient_.begin() + tensor.first;
            const std::vector<double> gradient(first, first + tensor.size);
            const double length = std::sqrt(dot(gradient, gradient));
            ASSERT_GT(length, 1e-2) << "too small a gradient to be checked";
            std::vector<double> direction;
            for (const double x : gradient) direction.push_back(x / length);
            EXPECT_NEAR(slope(tensor, direction) / length, 1, 1e-3) << "along the gradient";
            double squares = 0;
            for (int i = 0; i < directions; ++i) {
                const double side = 1 / std::sqrt(static_cast<double>(tensor.size));
                for (double& x : direction) x = random_.next() % 2 == 0 ? side : -side;
                const double error = slope(tensor, direction) - dot(gradient, direction);
                squares += error * error * static_cast<double>(tensor.size) / directions;
            }
            EXPECT_LT(std::sqrt(squares) / length, 1e-3) << "across the gradient";
        }
    }

private:
    static constexpr int directions = 4;

    static double dot(const std::vector<double>& a, const std::vector<double>& b) {
        return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
    }

    double loss_at(const TrainableTensor& tensor, const std::vector<double>& direction, double distance) {
        const std::span<float> numbers = numbers_of(model_, tensor);
        const std::vector<float> kept(numbers.begin(), numbers.end());
        for (std::size_t i = 0; i < kept.size(); ++i) {
            numbers[i] = static_cast<float>(static_cast<double>(kept[i]) + distance * direction[i]);
        }
        model_.refresh();
        const double loss = pass_.loss(example_);
        std::copy(kept.begin(), kept.end(), numbers.begin());
        model_.refresh();
        return loss;
    }

    // Differences of fourth order, so that steps may be large enough for the rounding of float.
    double slope(const TrainableTensor& tensor, const std::vector<double>& direction) {
        constexpr double step = 0.02;
        const auto difference = [&](double distance) {
            return (loss_at(tensor, direction, distance) - loss_at(tensor, direction, -distance)) / (2 * distance);
        };
        return (4 * difference(step) - difference(2 * step)) / 3;
    }

    TrainableLlama& model_;
    Example example_;
    TrainingPass pass_;
    std::vector<float> gradient_;
    Random random_{11};
};

}  // namespace llama::test
