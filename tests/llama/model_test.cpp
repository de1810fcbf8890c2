// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "freqkv/executor.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/random_checkpoint.hpp"
#include "llama/model/blocks.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/loss.hpp"
#include "llama/model/random.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::TemporaryDirectory;

std::vector<float> random_values(Index count, std::uint64_t seed) {
    Random random(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(2 * random.uniform() - 1);
    return values;
}

std::vector<Token> random_tokens(Index count, Index vocabulary) {
    Random random(9);
    std::vector<Token> tokens;
    while (static_cast<Index>(tokens.size()) < count) {
        tokens.push_back(static_cast<Token>(random.next() % static_cast<std::uint64_t>(vocabulary)));
    }
    return tokens;
}

TEST(Blocks, RmsNormIsTheDefinition) {
    for (const Index n : {1, 2, 3, 8, 17, 64, 100}) {
        const std::vector<float> x = random_values(n, 1);
        const std::vector<float> weight = random_values(n, 2);
        std::vector<float> y(x.size());
        rms_norm(x.data(), weight.data(), y.data(), n, 1e-3f);
        double squares = 0;
        for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
        const double root = std::sqrt(squares / static_cast<double>(n) + 1e-3);
        for (std::size_t i = 0; i < x.size(); ++i) {
            EXPECT_NEAR(y[i], static_cast<double>(x[i]) / root * static_cast<double>(weight[i]), 1e-6);
        }
    }
}

TEST(Blocks, SwiGluIsTheDefinition) {
    for (const Index n : {1, 2, 3, 8, 17, 64, 100}) {
        std::vector<float> gate = random_values(n, 1);
        for (float& value : gate) value *= 10;
        gate[0] = -200;  // its exponential does not fit a float
        const std::vector<float> before = gate;
        const std::vector<float> up = random_values(n, 2);
        swiglu(gate.data(), up.data(), n);
        for (std::size_t i = 0; i < gate.size(); ++i) {
            const double g = static_cast<double>(before[i]);
            EXPECT_NEAR(gate[i], g / (1 + std::exp(-g)) * static_cast<double>(up[i]), 1e-5);
        }
    }
}

TEST(Loss, AgreesWithTheDefinition) {
    for (const Index n : {1, 2, 255, 256, 257, 1000}) {
        std::vector<float> logits = random_values(n, 4);
        for (float& logit : logits) logit = 30 * logit + 100;
        double sum = 0;
        for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - 100);
        for (const Index target : {Index{0}, n / 2, n - 1}) {
            const double expected = std::log(sum) + 100 - static_cast<double>(logits[static_cast<std::size_t>(target)]);
            EXPECT_NEAR(negative_log_likelihood(logits, static_cast<Token>(target)), expected, 1e-5);
        }
    }
}

// The whole model in double, straight from the definitions: all keys and values, one token after the other.
class NaiveLlama {
public:
    explicit NaiveLlama(const Checkpoint& checkpoint)
        : checkpoint_(checkpoint), c_(checkpoint.config), keys_(layers()), values_(layers()) {}

    std::vector<double> logits_after(Token token) {
        Vector x = row(checkpoint_.embedding, token);
        for (std::size_t l = 0; l < layers(); ++l) {
            const LayerWeights& layer = checkpoint_.layers[l];
            const Vector h = norm(x, layer.attention_norm);
            keys_[l].push_back(rotated(product(layer.wk, h)));
            values_[l].push_back(product(layer.wv, h));
            add(x, product(layer.wo, attend(rotated(product(layer.wq, h)), keys_[l], values_[l])));
            const Vector g = norm(x, layer.ffn_norm);
            Vector gate = product(layer.gate, g);
            const Vector up = product(layer.up, g);
            for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
            add(x, product(layer.down, gate));
        }
        ++position_;
        return product(checkpoint_.classifier, norm(x, checkpoint_.final_norm));
    }

private:
    using Vector = std::vector<double>;

    std::size_t layers() const { return static_cast<std::size_t>(checkpoint_.config.layers); }

    static Vector row(Weights w, Index r) {
        const auto* const begin = reinterpret_cast<const float*>(w.row(r));
        return {begin, begin + w.columns};
    }

    static Vector product(Weights w, const Vector& x) {
        Vector y;
        for (Index r = 0; r < w.rows; ++r) {
            const Vector weights = row(w, r);
            y.push_back(std::inner_product(x.begin(), x.end(), weights.begin(), 0.0));
        }
        return y;
    }

    static void add(Vector& x, const Vector& y) {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }

    static Vector norm(const Vector& x, const float* weight) {
        double squares = 0;
        for (const double value : x) squares += value * value;
        const double root = std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
        Vector y = x;
        for (std::size_t i = 0; i < x.size(); ++i) y[i] *= static_cast<double>(weight[i]) / root;
        return y;
    }

    Vector rotated(Vector heads) const {
        const auto dims = static_cast<std::size_t>(c_.head_dim);
        for (std::size_t i = 0; i < heads.size(); i += 2) {
            const double exponent = static_cast<double>(i % dims) / static_cast<double>(dims);
            const double angle = position_ / std::pow(10000.0, exponent);
            const double a = heads[i];
            const double b = heads[i + 1];
            heads[i] = a * std::cos(angle) - b * std::sin(angle);
            heads[i + 1] = a * std::sin(angle) + b * std::cos(angle);
        }
        return heads;
    }

    Vector attend(const Vector& q, const std::vector<Vector>& keys, const std::vector<Vector>& values) const {
        const auto dims = static_cast<std::size_t>(c_.head_dim);
        const auto group = static_cast<std::size_t>(c_.heads / c_.kv_heads);
        Vector out(q.size());
        for (std::size_t h = 0; h < static_cast<std::size_t>(c_.heads); ++h) {
            Vector weights;
            double sum = 0;
            for (const Vector& key : keys) {
                double score = 0;
                for (std::size_t d = 0; d < dims; ++d) score += q[h * dims + d] * key[h / group * dims + d];
                weights.push_back(std::exp(score / std::sqrt(static_cast<double>(dims))));
                sum += weights.back();
            }
            for (std::size_t t = 0; t < weights.size(); ++t) {
                for (std::size_t d = 0; d < dims; ++d) {
                    out[h * dims + d] += weights[t] / sum * values[t][h / group * dims + d];
                }
            }
        }
        return out;
    }

    const Checkpoint& checkpoint_;
    Config c_;
    double position_ = 0;
    std::vector<std::vector<Vector>> keys_, values_;  // [layers][tokens]
};

// A model that is small, but has grouped heads, a feed-forward width that is odd to vectors, and enough
// work in a chunk for other threads.
class LlamaTest : public testing::Test {
protected:
    LlamaTest()
        : checkpoint_(open_checkpoint(directory_.write(
              "m.bin",
              random_checkpoint(
                  {.dim = 48, .hidden = 100, .layers = 3, .heads = 6, .kv_heads = 2, .vocabulary = 512, .context = 64},
                  CheckpointFormat::version_1, 1)))) {}

    template <class T, class P, class E = freqkv::SerialExecutor>
    std::vector<double> losses(const P& policy, Index chunk, const std::vector<Token>& tokens, E executor = {}) const {
        Llama<T, P, E> model(checkpoint_, {40, 4, 6}, policy, executor);
        std::vector<double> losses;
        EXPECT_TRUE(append_losses(model, tokens, chunk, losses, [](Index) { return true; }, executor));
        return losses;
    }

    TemporaryDirectory directory_;
    Checkpoint checkpoint_;
};

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << "loss " << i;
}

TEST_F(LlamaTest, AgreesWithTheDefinition) {
    const std::vector<Token> tokens = random_tokens(60, 512);
    Llama<float, freqkv::Full, freqkv::SerialExecutor> model(checkpoint_, {}, freqkv::Full{}, {});
    NaiveLlama naive(checkpoint_);
    double largest = 0;
    for (const Token token : tokens) {
        model.forward({&token, 1});
        const std::span<const float> logits = model.logits();
        const std::vector<double> expected = naive.logits_after(token);
        ASSERT_EQ(logits.size(), expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
            ASSERT_NEAR(logits[i], expected[i], 1e-4);
            largest = std::max(largest, std::abs(expected[i]));
        }
    }
    EXPECT_GT(largest, 1.0) << "the model says nothing";
}

TEST_F(LlamaTest, ChunksDoNotMatter) {
    const std::vector<Token> tokens = random_tokens(400, 512);
    const auto check = [&]<class P>(const P& policy) {
        const std::vector<double> whole = losses<float>(policy, 1000, tokens);
        ASSERT_EQ(whole.size(), 399u);
        for (const Index chunk : {1, 7, 64, 333}) expect_near(losses<float>(policy, chunk, tokens), whole, 1e-3);
    };
    check(freqkv::LowPass<>());
    check(freqkv::LocalWindow());
    check(freqkv::Full());
}

TEST_F(LlamaTest, WholeTextLeavesTheSameCachesAsSingleTokens) {
    const std::vector<Token> tokens = random_tokens(150, 512);
    using Model = Llama<float, freqkv::LowPass<>, freqkv::SerialExecutor>;
    Model whole(checkpoint_, {40, 4, 6}, freqkv::LowPass<>(), {});
    Model single(checkpoint_, {40, 4, 6}, freqkv::LowPass<>(), {});
    whole.forward(tokens);
    for (const Token token : tokens) single.forward({&token, 1});
    for (Index l = 0; l < 3; ++l) {
        const auto& a = whole.cache(l);
        const auto& b = single.cache(l);
        ASSERT_EQ(a.size(), b.size());
        EXPECT_EQ(a.compressions(), 8);
        EXPECT_EQ(b.compressions(), 8);
        for (Index h = 0; h < 2; ++h) {
            for (Index i = 0; i < a.size(); ++i) {
                for (Index d = 0; d < 8; ++d) {
                    ASSERT_NEAR(a.keys(h)(i, d), b.keys(h)(i, d), 1e-4);
                    ASSERT_NEAR(a.values(h)(i, d), b.values(h)(i, d), 1e-4);
                }
            }
        }
    }
}

#if defined(_OPENMP)
TEST_F(LlamaTest, ThreadsDoNotMatter) {
    const std::vector<Token> tokens = random_tokens(150, 512);
    for (const Index chunk : {1, 100, 150}) {
        const std::vector<double> serial = losses<float>(freqkv::LowPass<>(), chunk, tokens);
        for (const int threads : {2, 3}) {
            EXPECT_EQ(serial, (losses<float>(freqkv::LowPass<>(), chunk, tokens, freqkv::OpenMPExecutor(threads))));
        }
    }
}
#endif

TEST_F(LlamaTest, SixteenBitCachesAreCloseToFloat) {
    const std::vector<Token> tokens = random_tokens(200, 512);
    const std::vector<double> exact = losses<float>(freqkv::LowPass<>(), 100, tokens);
    expect_near(losses<Eigen::half>(freqkv::LowPass<>(), 100, tokens), exact, 0.02);
    expect_near(losses<Eigen::bfloat16>(freqkv::LowPass<>(), 100, tokens), exact, 0.15);
}

TEST_F(LlamaTest, ForgetsTheTextOnClear) {
    const std::vector<Token> tokens = random_tokens(100, 512);
    Llama<float, freqkv::LowPass<>, freqkv::SerialExecutor> model(checkpoint_, {40, 4, 6}, freqkv::LowPass<>(), {});
    std::vector<double> first, second;
    append_losses(model, tokens, 30, first, [](Index) { return true; });
    EXPECT_GT(model.cache(2).compressions(), 0);
    model.clear();
    EXPECT_EQ(model.cache(2).compressions(), 0);
    append_losses(model, tokens, 30, second, [](Index) { return true; });
    EXPECT_EQ(first, second);
}

TEST_F(LlamaTest, StopsWhenItIsTold) {
    const std::vector<Token> tokens = random_tokens(100, 512);
    Llama<float, freqkv::LowPass<>, freqkv::SerialExecutor> model(checkpoint_, {40, 4, 6}, freqkv::LowPass<>(), {});
    std::vector<double> losses;
    EXPECT_FALSE(append_losses(model, tokens, 30, losses, [](Index fed) { return fed < 60; }));
    EXPECT_EQ(losses.size(), 60u);
}

TEST_F(LlamaTest, LossesThatAreKnownAreNotComputedAgain) {
    const std::vector<Token> tokens = random_tokens(100, 512);
    const auto go_on = [](Index) { return true; };
    Llama<float, freqkv::LowPass<>, freqkv::SerialExecutor> model(checkpoint_, {40, 4, 6}, freqkv::LowPass<>(), {});
    std::vector<double> all;
    append_losses(model, tokens, 30, all, go_on);
    for (const std::size_t known : {1u, 29u, 30u, 31u, 98u, 99u}) {
        model.clear();
        std::vector<double> rest(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(known));
        rest[0] = -1;  // stands as it is
        append_losses(model, tokens, 30, rest, go_on);
        EXPECT_EQ(rest[0], -1);
        rest[0] = all[0];
        // Fewer rows at once round otherwise.
        expect_near(rest, all, 1e-5);
    }
}

TEST_F(LlamaTest, SaysHowLargeItsCachesAre) {
    const Llama<float, freqkv::LowPass<>, freqkv::SerialExecutor> model(checkpoint_, {40, 4, 6}, freqkv::LowPass<>(),
                                                                        {});
    EXPECT_EQ(model.cache_bytes(), 3 * 2 * 40 * 2 * 8 * 4);
}

}  // namespace
}  // namespace llama
