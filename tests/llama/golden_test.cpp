// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "freqkv/dct/direct.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/loss.hpp"
#include "naive.hpp"
#if defined(FREQKV_HAS_FFTW)
#include "freqkv/dct/fftw.hpp"
#endif

// A real model run by the reference implementation in double: its losses, and the caches of its first and
// last layer right after the first two compressions.
using namespace freqkv;

namespace {

const std::string shared = FREQKV_SHARED_DIR;

class Golden : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        std::ifstream file(shared + "/golden/" + GetParam() + ".json");
        if (!file) GTEST_SKIP() << "no golden files in " << shared;
        file >> golden_;
        std::ifstream ids(shared + "/golden/tokens.txt");
        const auto count = golden_["tokens"].get<std::size_t>();
        for (llama::Token id = 0; tokens_.size() < count && ids >> id;) tokens_.push_back(id);
        ASSERT_EQ(tokens_.size(), count);
    }

    template <class T, class P>
    void check(const P& policy, double loss_tolerance, double state_tolerance) {
        const llama::Checkpoint checkpoint = llama::open_checkpoint(shared + "/models/stories260K.bin");
        llama::Llama<T, P, SerialExecutor> model(checkpoint, {golden_["capacity"], golden_["sinks"], golden_["recent"]},
                                                 policy, SerialExecutor{});
        double sum = 0;
        double reference_sum = 0;
        std::size_t states_checked = 0;
        for (std::size_t t = 0; t < tokens_.size(); ++t) {
            const Index before = model.cache(0).compressions();
            model.forward({&tokens_[t], 1});
            if (model.cache(0).compressions() != before) states_checked += check_states<T>(model, state_tolerance);
            if (t + 1 == tokens_.size()) break;
            const double expected = golden_["nll"][t];
            const double loss = llama::negative_log_likelihood(model.logits(), tokens_[t + 1]);
            ASSERT_NEAR(loss, expected, loss_tolerance) << "loss of token " << t + 1;
            sum += loss;
            reference_sum += expected;
        }
        const double perplexity = std::exp(sum / static_cast<double>(tokens_.size() - 1));
        const double expected = golden_["perplexity"];
        EXPECT_NEAR(perplexity, expected, loss_tolerance / 20 * expected);
        EXPECT_NEAR(std::exp(reference_sum / static_cast<double>(tokens_.size() - 1)), expected, 1e-5);
        EXPECT_EQ(states_checked, golden_["states"].size());
        for (Index layer = 0; layer < model.config().layers; ++layer) {
            EXPECT_EQ(model.cache(layer).compressions(), golden_["compressions"].get<Index>());
            EXPECT_EQ(model.cache(layer).size(), golden_["final_size"].get<Index>());
        }
    }

private:
    // The entries that the latest compression left, all but the token that came after it. Returns how many
    // recorded states there were to compare with.
    template <class T, class Model>
    std::size_t check_states(const Model& model, double tolerance) const {
        std::size_t checked = 0;
        for (const auto& state : golden_["states"]) {
            const auto& cache = model.cache(state["layer"]);
            if (cache.compressions() != state["compression"].template get<Index>()) continue;
            ++checked;
            EXPECT_EQ(cache.size() - 1, state["size"].template get<Index>());
            double largest_key = 0;
            double largest_value = 0;
            double key_error = 0;
            double value_error = 0;
            for (Index i = 0; i < cache.size() - 1; ++i) {
                for (Index h = 0; h < cache.kv_heads(); ++h) {
                    naive::Row stored;
                    for (Index d = 0; d < cache.key_dim(); ++d)
                        stored.push_back(static_cast<double>(cache.keys(h)(i, d)));
                    const naive::Row key =
                        naive::rotated(stored, -i, {.rotated_dims = static_cast<std::size_t>(cache.key_dim())});
                    const auto& keys = state["keys"][static_cast<std::size_t>(i)][static_cast<std::size_t>(h)];
                    const auto& values = state["values"][static_cast<std::size_t>(i)][static_cast<std::size_t>(h)];
                    for (std::size_t d = 0; d < key.size(); ++d) {
                        const double value = static_cast<double>(cache.values(h)(i, static_cast<Index>(d)));
                        const double expected_key = keys[d];
                        const double expected_value = values[d];
                        largest_key = std::max(largest_key, std::abs(expected_key));
                        largest_value = std::max(largest_value, std::abs(expected_value));
                        key_error = std::max(key_error, std::abs(key[d] - expected_key));
                        value_error = std::max(value_error, std::abs(value - expected_value));
                    }
                }
            }
            EXPECT_LE(key_error, tolerance * largest_key) << "un-rotated keys of layer " << state["layer"];
            EXPECT_LE(value_error, tolerance * largest_value) << "values of layer " << state["layer"];
        }
        return checked;
    }

    nlohmann::json golden_;
    std::vector<llama::Token> tokens_;

protected:
    bool low_pass() const { return golden_["policy"] == "low_pass"; }
    double ratio() const { return golden_["ratio"]; }
};

TEST_P(Golden, FloatLossesAreTheGoldenOnes) {
    low_pass() ? check<float>(LowPass<>(ratio()), 2e-3, 1e-4) : check<float>(LocalWindow(ratio()), 2e-3, 1e-4);
}

TEST_P(Golden, FloatLossesThroughDirectAreTheGoldenOnes) {
    if (!low_pass()) GTEST_SKIP() << "nothing is transformed in this case";
    check<float>(LowPass<dct::Direct>(ratio()), 2e-3, 1e-4);
}

#if defined(FREQKV_HAS_FFTW)
TEST_P(Golden, FloatLossesThroughFftwAreTheGoldenOnes) {
    if (!low_pass()) GTEST_SKIP() << "nothing is transformed in this case";
    check<float>(LowPass<dct::Fftw>(ratio()), 2e-3, 1e-4);
}
#endif

// The cache in double: what is left is the rounding of the model's own float32.
TEST_P(Golden, DoubleLossesAreTheGoldenOnes) {
    low_pass() ? check<double>(LowPass<>(ratio()), 2e-3, 1e-4) : check<double>(LocalWindow(ratio()), 2e-3, 1e-4);
}

TEST_P(Golden, HalfLossesAreTheGoldenOnes) {
    low_pass() ? check<Eigen::half>(LowPass<>(ratio()), 0.1, 5e-3)
               : check<Eigen::half>(LocalWindow(ratio()), 0.1, 5e-3);
}

TEST_P(Golden, BFloat16LossesAreTheGoldenOnes) {
    low_pass() ? check<Eigen::bfloat16>(LowPass<>(ratio()), 0.6, 4e-2)
               : check<Eigen::bfloat16>(LocalWindow(ratio()), 0.6, 4e-2);
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden,
                         testing::Values("lowpass-64", "lowpass-128-recent-16", "lowpass-100-quarter", "lowpass-512",
                                         "window-64", "full"),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

}  // namespace
