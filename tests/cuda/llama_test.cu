// SPDX-License-Identifier: MIT
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/error.hpp"
#include "llama/cuda/cuda_llama.cuh"
#include "llama/cuda/device_llama.hpp"
#include "llama/cuda/device_weights.cuh"
#include "llama/cuda/models.cuh"
#include "llama/cuda/weight_types.hpp"
#include "llama_host.hpp"
#include "naive.hpp"
#if defined(FREQKV_EMULATED_DEVICE)
#include "emulated_runtime.hpp"
#endif

// The reference Llama on a device: a real model against the reference implementation's run, models of random weights
// against the host's Llama, and the ways that lead to the same result against each other.
namespace llama {
namespace {

using freqkv::Full;
using freqkv::LocalWindow;
using freqkv::LowPass;
using test::GoldenCase;
using test::GoldenState;

std::shared_ptr<const device::DeviceWeights> upload(const Checkpoint& checkpoint) {
    return std::make_shared<const device::DeviceWeights>(checkpoint);
}

template <class T>
float as_float(T value) {
    return freqkv::cuda::detail::to_float(value);
}

// The losses of tokens[1..], fed in chunks, behind each of which each() is called.
template <class Model, class F>
std::vector<double> losses_of(Model& model, std::span<const Token> tokens, Index chunk, const F& each) {
    std::vector<double> losses;
    const auto vocabulary = static_cast<std::size_t>(model.config().vocabulary);
    for (std::size_t t = 0; t < tokens.size();) {
        const std::size_t count = std::min(static_cast<std::size_t>(chunk), tokens.size() - t);
        model.forward(tokens.subspan(t, count));
        each();
        const std::size_t scored = std::min(count, tokens.size() - 1 - t);
        const std::span<const float> logits = model.logits(0, static_cast<Index>(scored));
        for (std::size_t i = 0; i < scored; ++i) {
            losses.push_back(test::loss_of(logits.subspan(i * vocabulary, vocabulary), tokens[t + i + 1]));
        }
        t += count;
    }
    return losses;
}

template <class Model>
std::vector<double> losses_of(Model& model, std::span<const Token> tokens, Index chunk) {
    return losses_of(model, tokens, chunk, [] {});
}

double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
}

// f(policy) for the policy of a case.
template <class F>
auto with_policy(const GoldenCase& golden, const F& f) {
    return golden.policy == "low-pass" ? f(LowPass<>(golden.ratio)) : f(LocalWindow(golden.ratio));
}

class DeviceLlamaGolden : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        golden_ = test::read_golden_case(GetParam());
        if (!golden_) GTEST_SKIP() << "no golden files";
    }

    const GoldenCase& golden() const { return *golden_; }

    // The difference of the mean loss of a model with such caches and weights from the reference implementation's.
    template <class T>
    double mean_difference(WeightType weights) const {
        const Checkpoint original = test::open_golden_model();
        const Checkpoint checkpoint = weights == WeightType::f32 ? original.view() : test::stored_as(original, weights);
        const std::vector<double> losses = with_policy(golden(), [&]<class P>(const P& policy) {
            CudaLlama<T, P> model(checkpoint.config, upload(checkpoint), golden().sizes, policy);
            return losses_of(model, golden().tokens, 1);
        });
        return mean(losses) - mean(golden().losses);
    }

private:
    std::optional<GoldenCase> golden_;
};

// The entries that the latest compression left, all but the token that came after it.
template <class Model>
void expect_state(const Model& model, const GoldenState& state, double tolerance) {
    const auto& cache = model.device_cache(state.layer);
    ASSERT_EQ(cache.size(0) - 1, state.size);
    const auto saved = cache.save(0, model.stream());
    const Index dims = model.config().head_dim;
    const Index heads = model.config().kv_heads;
    double largest[2] = {};
    double error[2] = {};
    for (Index i = 0; i < state.size; ++i) {
        for (Index h = 0; h < heads; ++h) {
            const auto place = static_cast<std::size_t>((h * saved.size + i) * dims);
            naive::Row stored;
            for (Index d = 0; d < dims; ++d) {
                stored.push_back(static_cast<double>(as_float(saved.keys[place + static_cast<std::size_t>(d)])));
            }
            const naive::Row key = naive::rotated(stored, -i, {.rotated_dims = static_cast<std::size_t>(dims)});
            for (std::size_t d = 0; d < static_cast<std::size_t>(dims); ++d) {
                const std::size_t wanted = static_cast<std::size_t>((i * heads + h) * dims) + d;
                const double value = static_cast<double>(as_float(saved.values[place + d]));
                largest[0] = std::max(largest[0], std::abs(state.keys[wanted]));
                largest[1] = std::max(largest[1], std::abs(state.values[wanted]));
                error[0] = std::max(error[0], std::abs(key[d] - state.keys[wanted]));
                error[1] = std::max(error[1], std::abs(value - state.values[wanted]));
            }
        }
    }
    EXPECT_LE(error[0], tolerance * largest[0]) << "un-rotated keys of layer " << state.layer;
    EXPECT_LE(error[1], tolerance * largest[1]) << "values of layer " << state.layer;
}

TEST_P(DeviceLlamaGolden, FloatGivesTheGoldenLosses) {
    const Checkpoint checkpoint = test::open_golden_model();
    const auto weights = upload(checkpoint);
    with_policy(golden(), [&]<class P>(const P& policy) {
        CudaLlama<float, P> model(checkpoint.config, weights, golden().sizes, policy);
        std::size_t states_checked = 0;
        Index compressions = 0;
        const std::vector<double> losses = losses_of(model, golden().tokens, 1, [&] {
            if (model.cache(0).compressions() == compressions) return;
            compressions = model.cache(0).compressions();
            for (const GoldenState& state : golden().states) {
                if (state.compression != compressions) continue;
                expect_state(model, state, 1e-4);
                ++states_checked;
            }
        });
        EXPECT_EQ(states_checked, golden().states.size());
        ASSERT_EQ(losses.size(), golden().losses.size());
        for (std::size_t t = 0; t < losses.size(); ++t) {
            ASSERT_NEAR(losses[t], golden().losses[t], 2e-3) << "loss of token " << t + 1;
        }
        EXPECT_NEAR(std::exp(mean(losses)), golden().perplexity, 1e-4 * golden().perplexity);
        for (Index layer = 0; layer < model.config().layers; ++layer) {
            EXPECT_EQ(model.cache(layer).compressions(), golden().compressions);
            EXPECT_EQ(model.cache(layer).size(), golden().final_size);
        }
    });
}

TEST_P(DeviceLlamaGolden, FloatInChunksGivesTheGoldenLosses) {
    const Checkpoint checkpoint = test::open_golden_model();
    const auto weights = upload(checkpoint);
    with_policy(golden(), [&]<class P>(const P& policy) {
        CudaLlama<float, P> model(checkpoint.config, weights, golden().sizes, policy, 97);
        const std::vector<double> losses = losses_of(model, golden().tokens, 97);
        ASSERT_EQ(losses.size(), golden().losses.size());
        for (std::size_t t = 0; t < losses.size(); ++t) {
            ASSERT_NEAR(losses[t], golden().losses[t], 2e-3) << "loss of token " << t + 1;
        }
        EXPECT_EQ(model.cache(0).compressions(), golden().compressions);
    });
}

TEST_P(DeviceLlamaGolden, HalfCacheGivesTheGoldenLosses) {
    const double difference = mean_difference<__half>(WeightType::f32);
    RecordProperty("mean_loss_difference", std::to_string(difference));
    EXPECT_NEAR(difference, 0, 5e-4);
}

TEST_P(DeviceLlamaGolden, Bfloat16CacheGivesTheGoldenLosses) {
    const double difference = mean_difference<__nv_bfloat16>(WeightType::f32);
    RecordProperty("mean_loss_difference", std::to_string(difference));
    EXPECT_NEAR(difference, 0, 5e-3);
}

TEST_P(DeviceLlamaGolden, HalfWeightsGiveTheGoldenLosses) {
    const double difference = mean_difference<__half>(WeightType::f16);
    RecordProperty("mean_loss_difference", std::to_string(difference));
    EXPECT_NEAR(difference, 0, 1e-3);
}

TEST_P(DeviceLlamaGolden, Bfloat16WeightsGiveTheGoldenLosses) {
    const double difference = mean_difference<__nv_bfloat16>(WeightType::bf16);
    RecordProperty("mean_loss_difference", std::to_string(difference));
    EXPECT_NEAR(difference, 0, 1e-2);
}

INSTANTIATE_TEST_SUITE_P(Cases, DeviceLlamaGolden,
                         testing::Values("lowpass-64", "lowpass-128-recent-16", "lowpass-100-quarter", "lowpass-512",
                                         "window-64", "full"),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

// A growing cache sees what a cache that never fills does.
TEST(DeviceLlamaFull, AgreesWithTheReferenceUpToItsCapacity) {
    const std::optional<GoldenCase> golden = test::read_golden_case("full");
    if (!golden) GTEST_SKIP() << "no golden files";
    const Checkpoint checkpoint = test::open_golden_model();
    const auto count = static_cast<Index>(golden->tokens.size());
    CudaLlama<float, Full> model(checkpoint.config, upload(checkpoint), {count, 0, 0}, Full{});
    const std::vector<double> losses = losses_of(model, golden->tokens, 1);
    for (std::size_t t = 0; t < losses.size(); ++t) {
        ASSERT_NEAR(losses[t], golden->losses[t], 2e-3) << "loss of token " << t + 1;
    }
    EXPECT_EQ(model.cache(0).size(), count);
    EXPECT_EQ(model.cache(0).capacity(), count);
    EXPECT_EQ(model.cache(0).compressions(), 0);
    const std::string full = "number of tokens is 1, must be within the room of the cache";
    EXPECT_THAT([&] { model.forward({golden->tokens.data(), 1}); },
                testing::ThrowsMessage<freqkv::Error>(testing::HasSubstr(full)));
    model.clear();
    EXPECT_THAT([&] { model.forward(std::vector<Token>(golden->tokens.size() + 1, 1)); },
                testing::Throws<freqkv::Error>());
    EXPECT_EQ(model.cache(0).size(), 0);
    EXPECT_EQ(losses_of(model, golden->tokens, 1), losses);
}

// --- Models of random weights

Config small_config() {
    Config config;
    config.dim = 64;
    config.hidden = 96;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 16;
    config.vocabulary = 130;
    config.context = 64;
    return config;
}

std::vector<Token> some_tokens(Index count) {
    std::vector<Token> tokens;
    for (Index i = 0; i < count; ++i) tokens.push_back(static_cast<Token>((i * i * 31 + i * 7 + 5) % 130));
    return tokens;
}

DeviceSettings small_settings(PolicyName policy) {
    DeviceSettings settings;
    settings.policy = policy;
    settings.sizes = policy == PolicyName::full ? CacheSizes{100, 0, 0} : CacheSizes{40, 3, 5};
    settings.chunk = 8;
    return settings;
}

// Logits after each token, fed in chunks.
std::vector<float> logits_of(LanguageModel& model, std::span<const Token> tokens, Index chunk) {
    std::vector<float> result;
    for (std::size_t t = 0; t < tokens.size();) {
        const std::size_t count = std::min(static_cast<std::size_t>(chunk), tokens.size() - t);
        model.forward(tokens.subspan(t, count));
        const std::span<const float> logits = model.logits(0, static_cast<Index>(count));
        result.insert(result.end(), logits.begin(), logits.end());
        t += count;
    }
    return result;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double largest = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        largest = std::isfinite(difference) ? std::max(largest, difference) : INFINITY;
    }
    return largest;
}

// Queries in groups, biases, a classifier of its own, both pairings, all policies; by tokens and in chunks that grow
// beyond what was expected.
TEST(DeviceLlamaRandom, GivesTheHostsLogits) {
    const std::vector<Token> tokens = some_tokens(100);
    for (const bool shared_classifier : {false, true}) {
        Config config = small_config();
        config.shared_classifier = shared_classifier;
        Checkpoint checkpoint = test::random_model(config, 3);
        if (shared_classifier) {
            test::add_biases(checkpoint, 4);
            checkpoint.config.rope_pairing = freqkv::RopePairing::half_split;
        }
        for (const PolicyName policy : {PolicyName::low_pass, PolicyName::local_window, PolicyName::full}) {
            const DeviceSettings settings = small_settings(policy);
            const std::vector<float> expected = test::host_logits(checkpoint, settings, tokens);
            const std::unique_ptr<LanguageModel> model = open_device_llama(checkpoint, settings);
            for (const Index chunk : {1, 7, 30, 1}) {
                model->clear();
                EXPECT_LE(largest_difference(logits_of(*model, tokens, chunk), expected), 2e-4)
                    << to_string(policy) << " in chunks of " << chunk;
            }
            if (policy != PolicyName::full) EXPECT_GE(model->cache(1).compressions(), 3);
        }
    }
}

// Heads and caches that tensor cores take.
TEST(DeviceLlamaRandom, AttendsToChunksOnTensorCores) {
    const std::vector<Token> tokens = some_tokens(130);
    Config config = small_config();
    config.dim = 256;
    config.head_dim = 64;
    const Checkpoint checkpoint = test::random_model(config, 8);
    for (const auto& [type, tolerance] : {std::pair{CacheType::f16, 5e-3}, {CacheType::bf16, 4e-2}}) {
        DeviceSettings settings = small_settings(PolicyName::low_pass);
        settings.sizes = {90, 3, 5};
        settings.type = type;
        const std::vector<float> expected = test::host_logits(checkpoint, settings, tokens);
        const std::unique_ptr<LanguageModel> model = open_device_llama(checkpoint, settings);
        const std::vector<float> by_token = logits_of(*model, tokens, 1);
        EXPECT_LE(largest_difference(by_token, expected), tolerance) << to_string(type);
        model->clear();
        const std::vector<float> in_chunks = logits_of(*model, tokens, 45);
        EXPECT_GE(model->cache(1).compressions(), 1);
        EXPECT_LE(largest_difference(in_chunks, expected), tolerance) << to_string(type);
        EXPECT_GT(largest_difference(in_chunks, by_token), 0) << "the kernel for chunks has not been used";
    }
}

// The host multiplies such weights by activations in float, the device rounds those to the type of the weights.
TEST(DeviceLlamaRandom, TakesWeightsOfSixteenBitsAndQuantisedOnes) {
    const std::vector<Token> tokens = some_tokens(60);
    const Checkpoint checkpoint = test::random_model(small_config(), 5);
    for (const auto& [type, on_device, tolerance] : {std::tuple{WeightType::f16, WeightType::f16, 1e-2},
                                                     {WeightType::bf16, WeightType::bf16, 4e-2},
                                                     {WeightType::q8_0, WeightType::f16, 1e-2}}) {
        const Checkpoint stored = test::stored_as(checkpoint, type);
        EXPECT_EQ(device_type(stored), on_device);
        const DeviceSettings settings = small_settings(PolicyName::low_pass);
        const std::unique_ptr<LanguageModel> model = open_device_llama(stored, settings);
        const double difference =
            largest_difference(logits_of(*model, tokens, 1), test::host_logits(stored, settings, tokens));
        RecordProperty(format_of(type).name, std::to_string(difference));
        EXPECT_LE(difference, tolerance) << format_of(type).name;
        EXPECT_GT(difference, 0) << format_of(type).name;
    }
}

// What an adapter leaves: some matrices of a layer in float, the others not.
TEST(DeviceLlamaRandom, TakesMatricesOfSeveralTypes) {
    const std::vector<Token> tokens = some_tokens(60);
    const Checkpoint checkpoint = test::random_model(small_config(), 5);
    Checkpoint mixed = test::stored_as(checkpoint, WeightType::bf16);
    mixed.layers[0].wq = checkpoint.layers[0].wq;
    mixed.layers[1].wo = checkpoint.layers[1].wo;
    mixed.layers[1].down = checkpoint.layers[1].down;
    mixed.embedding = checkpoint.embedding;
    EXPECT_EQ(device_type({&mixed.layers[0].wq, &mixed.layers[0].wk, &mixed.layers[0].wv}), WeightType::f32);
    const DeviceSettings settings = small_settings(PolicyName::low_pass);
    const std::unique_ptr<LanguageModel> model = open_device_llama(mixed, settings);
    EXPECT_LE(largest_difference(logits_of(*model, tokens, 1), test::host_logits(mixed, settings, tokens)), 4e-2);
}

template <class T>
class DeviceLlamaWays : public testing::Test {};
using ElementTypes = testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(DeviceLlamaWays, ElementTypes);

// The graph is the launches, to the bit; so is a text after another one.
TYPED_TEST(DeviceLlamaWays, LeadToTheSameLogits) {
    const std::vector<Token> tokens = some_tokens(100);
    const Checkpoint checkpoint = test::random_model(small_config(), 6);
    const auto check = [&]<class P>(const P& policy, const CacheSizes& sizes) {
        const auto weights = upload(checkpoint);
        CudaLlama<TypeParam, P> launched(checkpoint.config, weights, sizes, policy);
        launched.use_graph(false);
        const std::vector<float> expected = logits_of(launched, tokens, 1);
        CudaLlama<TypeParam, P> model(checkpoint.config, weights, sizes, policy);
        EXPECT_EQ(largest_difference(logits_of(model, tokens, 1), expected), 0) << "by a graph";
        EXPECT_EQ(model.cache(1).size(), launched.cache(1).size());
        EXPECT_EQ(model.cache(1).compressions(), launched.cache(1).compressions());
        model.clear();
        EXPECT_EQ(model.cache(0).size(), 0);
        EXPECT_EQ(largest_difference(logits_of(model, tokens, 1), expected), 0) << "once more";
        // A longer call moves the activations, which the graph must notice.
        model.clear();
        launched.clear();
        for (LanguageModel* const each :
             {static_cast<LanguageModel*>(&model), static_cast<LanguageModel*>(&launched)}) {
            (void)logits_of(*each, std::span(tokens).first(50), 50);
        }
        const std::span<const Token> rest = std::span(tokens).subspan(50);
        EXPECT_EQ(largest_difference(logits_of(model, rest, 1), logits_of(launched, rest, 1)), 0) << "behind a chunk";
    };
    check(LowPass<>(0.5), {40, 3, 5});
    check(LocalWindow(0.5), {40, 3, 5});
    check(Full{}, {100, 0, 0});
}

TEST(DeviceLlamaErrors, NameTokensOutsideTheVocabulary) {
    const Checkpoint checkpoint = test::random_model(small_config(), 3);
    const std::unique_ptr<LanguageModel> model = open_device_llama(checkpoint, small_settings(PolicyName::low_pass));
    for (const Token token : {-1, 130}) {
        EXPECT_THAT([&] { model->forward(std::vector<Token>{1, token}); },
                    testing::ThrowsMessage<freqkv::Error>(
                        testing::HasSubstr("token is " + std::to_string(token) + ", must be within the vocabulary")));
    }
    EXPECT_EQ(model->cache(0).size(), 0);
    model->forward(std::vector<Token>{1, 2});
    EXPECT_THAT([&] { (void)model->logits(1, 2); }, testing::Throws<freqkv::Error>());
    EXPECT_EQ(model->logits(1, 1).size(), 130U);
}

TEST(DeviceLlamaErrors, NameWeightsThatHalfCannotHold) {
    const Checkpoint checkpoint = test::random_model(small_config(), 3);
    Checkpoint large = checkpoint.view();
    const Index count = large.layers[1].down.rows * large.layers[1].down.columns;
    float* const values = large.allocate_floats(count);
    std::fill_n(values, count, 1.0F);
    values[70] = 1e6F;
    large.layers[1].down.data = reinterpret_cast<const std::byte*>(values);
    Checkpoint stored = test::stored_as(large, WeightType::q8_0);
    EXPECT_THAT([&] { (void)open_device_llama(stored, small_settings(PolicyName::low_pass)); },
                testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr("a Q8_0 weight is above 65504")));
}

#if defined(FREQKV_EMULATED_DEVICE)

TEST(DeviceLlamaErrors, SayThatThereIsNoDevice) {
    const Checkpoint checkpoint = test::random_model(small_config(), 3);
    const auto says = testing::ThrowsMessage<std::runtime_error>(
        testing::StrEq("there is no CUDA device (no CUDA-capable device is detected)"));
    emulated_device().missing = cudaErrorNoDevice;
    EXPECT_THAT([] { check_device(); }, says);
    EXPECT_THAT([&] { (void)open_device_llama(checkpoint, small_settings(PolicyName::low_pass)); }, says);
    emulated_device().missing = cudaSuccess;
    EXPECT_NO_THROW(check_device());
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(DeviceLlamaErrors, NameWhatIsTooLargeForTheMemory) {
    const Checkpoint checkpoint = test::random_model(small_config(), 3);
    DeviceSettings settings = small_settings(PolicyName::low_pass);
    const auto refused = [&](std::size_t free, const std::string& reason) {
        emulate_free_memory(free);
        EXPECT_THAT([&] { (void)open_device_llama(checkpoint, settings); },
                    testing::ThrowsMessage<std::runtime_error>(
                        testing::AllOf(testing::HasSubstr("the weights need 1 MiB of the GPU's memory, a cache of "),
                                       testing::HasSubstr(reason))));
        emulate_free_memory(std::size_t{1} << 36);
    };
    refused(100000, "but 1 MiB are free; a smaller --capacity or --prefill-chunk");
    // What cuBLAS works in is not counted.
    refused(2000000, "the GPU is out of memory: ");
    settings.sizes.capacity = Index{1} << 24;
    refused(std::size_t{1} << 32, "a cache of 16777216 entries 8192 MiB and 8 tokens at once 1 MiB, but 4096 MiB");
    settings = small_settings(PolicyName::low_pass);
    const std::unique_ptr<LanguageModel> model = open_device_llama(checkpoint, settings);
    const std::vector<Token> tokens = some_tokens(60);
    const std::vector<float> expected = logits_of(*model, tokens, 60);
    const auto many = some_tokens(3000);
    emulate_free_memory(1000000);
    EXPECT_THAT([&] { model->forward(many); },
                testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr(
                    "the GPU is out of memory: 3000 tokens at once need 7 MiB; a smaller --prefill-chunk")));
    emulate_free_memory(std::size_t{1} << 36);
    model->clear();
    EXPECT_EQ(largest_difference(logits_of(*model, tokens, 60), expected), 0);
}

#endif

}  // namespace
}  // namespace llama
