// SPDX-License-Identifier: MIT
#include "llama/formats/adapter.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "llama/formats/hugging_face.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/hugging_face_files.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/torch_files.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::make_safetensors;
using test::make_torch_file;
using test::random_tensor;
using test::small_model;
using test::TemporaryDirectory;
using test::TestTensor;
using test::TestTensors;
using testing::HasSubstr;

const std::string wrapped = "base_model.model.";
const std::string q_proj = "model.layers.0.self_attn.q_proj";
const std::string embedding = "model.embed_tokens";

json adapter_config(const json& changes = json::object()) {
    json config{{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 3}, {"bias", "none"}, {"use_dora", false}};
    config.update(changes);
    return config;
}

std::vector<float> numbers_of(const NamedWeights& weights) {
    if (weights.vector != nullptr) return {*weights.vector, *weights.vector + weights.shape.at(0)};
    const Weights& matrix = *weights.matrix;
    std::vector<float> numbers(static_cast<std::size_t>(matrix.rows * matrix.columns));
    to_floats(matrix.data, matrix.type, matrix.rows * matrix.columns, numbers.data());
    return numbers;
}

// A model and an adapter of it, each in a directory of its own.
struct Files {
    TestTensors model = small_model("BF16");
    bool shared = false;
    json config = adapter_config();
    TestTensors adapter;
    TestTensors trained;
    bool pickled = false;
    TemporaryDirectory model_directory;
    TemporaryDirectory adapter_directory;

    void add_lora(const std::string& module, Index rows, Index columns, Index rank = 2, unsigned seed = 100) {
        adapter[wrapped + module + ".lora_A.weight"] = random_tensor({rank, columns}, "F32", seed);
        adapter[wrapped + module + ".lora_B.weight"] = random_tensor({rows, rank}, "F32", seed + 1);
    }

    Checkpoint merge(ChangedWeights* changed = nullptr) {
        json config_json = test::small_config();
        config_json["tie_word_embeddings"] = shared;
        if (shared) model.erase("lm_head.weight");
        model_directory.write("config.json", config_json.dump());
        model_directory.write("model.safetensors", make_safetensors(model));
        adapter_directory.write("adapter_config.json", config.dump());
        const auto write = [&](const std::string& stem, const TestTensors& tensors) {
            if (tensors.empty()) return;
            pickled ? adapter_directory.write(stem + ".bin", make_torch_file(tensors))
                    : adapter_directory.write(stem + ".safetensors", make_safetensors(tensors));
        };
        write("adapter_model", adapter);
        write("trainable_params", trained);
        Checkpoint checkpoint = read_hugging_face(model_directory.path());
        ChangedWeights result = merge_adapter(checkpoint, adapter_directory.path());
        if (changed != nullptr) *changed = result;
        return checkpoint;
    }

    std::string refusal() {
        return test::refusal_of([&] { merge(); });
    }
};

// W + scale * B A in double precision.
std::vector<double> naive_merge(const TestTensor& w, const TestTensor& b, const TestTensor& a, double scale) {
    const auto rows = static_cast<std::size_t>(w.shape[0]);
    const auto columns = static_cast<std::size_t>(w.shape[1]);
    const auto rank = static_cast<std::size_t>(a.shape[0]);
    std::vector<double> result(w.values.begin(), w.values.end());
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < columns; ++j) {
            for (std::size_t k = 0; k < rank; ++k) {
                result[i * columns + j] += scale * static_cast<double>(b.values[i * rank + k]) *
                                           static_cast<double>(a.values[k * columns + j]);
            }
        }
    }
    return result;
}

TestTensor transposed(const TestTensor& t) {
    TestTensor result{t.type, {t.shape[1], t.shape[0]}, {}};
    for (Index j = 0; j < t.shape[1]; ++j) {
        for (Index i = 0; i < t.shape[0]; ++i) {
            result.values.push_back(t.values[static_cast<std::size_t>(i * t.shape[1] + j)]);
        }
    }
    return result;
}

void expect_near(const std::vector<float>& numbers, const std::vector<double>& expected, const std::string& name) {
    ASSERT_EQ(numbers.size(), expected.size()) << name;
    for (std::size_t i = 0; i < numbers.size(); ++i) EXPECT_NEAR(numbers[i], expected[i], 1e-5) << name << " " << i;
}

NamedWeights find(Checkpoint& checkpoint, const std::string& name) {
    for (NamedWeights& weights : named_weights(checkpoint)) {
        if (weights.name == name) return weights;
    }
    throw std::runtime_error("no " + name);
}

std::vector<double> merged(const Files& files, const std::string& module, double scale) {
    return naive_merge(files.model.at(module + ".weight"), files.adapter.at(wrapped + module + ".lora_B.weight"),
                       files.adapter.at(wrapped + module + ".lora_A.weight"), scale);
}

TEST(Adapter, EveryProjectionGetsItsLowRankChange) {
    for (const bool pickled : {false, true}) {
        SCOPED_TRACE(pickled ? "adapter_model.bin" : "adapter_model.safetensors");
        Files files;
        files.pickled = pickled;
        unsigned seed = 100;
        for (const auto& [name, tensor] : files.model) {
            if (tensor.shape.size() != 2 || name == embedding + ".weight") continue;
            files.add_lora(name.substr(0, name.size() - 7), tensor.shape[0], tensor.shape[1], 2, seed += 2);
        }
        ChangedWeights changed;
        Checkpoint checkpoint = files.merge(&changed);
        EXPECT_EQ(changed.size(), 15u);
        for (const NamedWeights& weights : named_weights(checkpoint)) {
            const TestTensor& before = files.model.at(weights.name);
            if (!changed.contains(weights.name)) {
                EXPECT_EQ(numbers_of(weights), before.values) << weights.name << " was not trained";
                continue;
            }
            EXPECT_EQ(weights.matrix->type, WeightType::f32) << "rounding would lose the change";
            const std::string module = weights.name.substr(0, weights.name.size() - 7);
            expect_near(numbers_of(weights), merged(files, module, 1.5), weights.name);
        }
        EXPECT_EQ(checkpoint.format, "Hugging Face Llama, BF16, with an adapter");
    }
}

TEST(Adapter, TheScaleFollowsRankAndAlpha) {
    const auto scale_of = [](const json& changes, Index rank = 2) {
        Files files;
        files.config = adapter_config(changes);
        files.add_lora(q_proj, 8, 8, rank);
        Checkpoint checkpoint = files.merge();
        const std::vector<float> after = numbers_of(find(checkpoint, q_proj + ".weight"));
        const std::vector<double> unit = merged(files, q_proj, 1);
        const std::vector<float>& before = files.model.at(q_proj + ".weight").values;
        double change = 0;
        double unit_change = 0;
        for (std::size_t i = 0; i < after.size(); ++i) {
            change += std::abs(static_cast<double>(after[i]) - static_cast<double>(before[i]));
            unit_change += std::abs(unit[i] - static_cast<double>(before[i]));
        }
        return change / unit_change;
    };
    EXPECT_NEAR(scale_of(json::object()), 1.5, 1e-5);
    EXPECT_NEAR(scale_of({{"lora_alpha", 0.5}}), 0.25, 1e-5);
    EXPECT_NEAR(scale_of({{"use_rslora", true}}), 3 / std::sqrt(2), 1e-5);
    EXPECT_NEAR(scale_of({{"rank_pattern", {{"q_proj", 4}}}}, 4), 0.75, 1e-5);
    EXPECT_NEAR(scale_of({{"alpha_pattern", {{"q_proj", 5}}}}), 2.5, 1e-5);
    EXPECT_NEAR(scale_of({{"alpha_pattern", {{"layers.0.self_attn.q_proj", 5}, {"layers.1.self_attn.q_proj", 9}}}}),
                2.5, 1e-5);
    EXPECT_NEAR(scale_of({{"alpha_pattern", {{"^model.layers.0.self_attn.q_proj", 5}}}}), 2.5, 1e-5);
    EXPECT_NEAR(scale_of({{"alpha_pattern", {{"^layers.0.self_attn.q_proj", 5}, {"proj", 5}, {"q", 5}}}}), 1.5, 1e-5)
        << "names fit from the start or behind a dot";
    EXPECT_NEAR(
        scale_of({{"rank_pattern", {{"q_proj", 4}}}, {"alpha_pattern", {{"q_proj", 5}}}, {"use_rslora", true}}, 4), 2.5,
        1e-5);
    EXPECT_NEAR(scale_of({{"rank_pattern", {{R"(layers\.\d+\.self_attn\.[qk]_proj)", 4}}}}, 4), 0.75, 1e-5);
    EXPECT_NEAR(scale_of({{"alpha_pattern", {{"k_proj|q_proj", 5}}}}), 2.5, 1e-5);
}

TEST(Adapter, TensorsThatWereTrainedWhollyReplaceTheModels) {
    Files files;
    files.add_lora(q_proj, 8, 8);
    files.adapter[wrapped + "model.norm.weight"] = random_tensor({8}, "F32", 50);
    files.adapter[wrapped + "lm_head.weight"] = random_tensor({10, 8}, "F16", 51);
    files.adapter[wrapped + "model.layers.1.mlp.up_proj.weight"] = random_tensor({12, 8}, "F32", 52);
    // A LoRA on top of a base that was saved along.
    files.adapter[wrapped + q_proj + ".base_layer.weight"] = random_tensor({8, 8}, "F32", 53);
    ChangedWeights changed;
    Checkpoint checkpoint = files.merge(&changed);
    for (const char* const name : {"model.norm.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"}) {
        EXPECT_EQ(numbers_of(find(checkpoint, name)), files.adapter.at(wrapped + name).values) << name;
    }
    EXPECT_EQ(checkpoint.classifier.type, WeightType::f16) << "kept as it was saved";
    EXPECT_EQ(changed.at("model.norm.weight"), WeightType::f32);
    EXPECT_EQ(changed.at("lm_head.weight"), WeightType::f16);
    files.model[q_proj + ".weight"] = files.adapter.at(wrapped + q_proj + ".base_layer.weight");
    expect_near(numbers_of(find(checkpoint, q_proj + ".weight")), merged(files, q_proj, 1.5), q_proj);
}

TEST(Adapter, TheEmbeddingAndNormsThatLongLoraSavesReplaceTheModels) {
    for (const bool pickled : {false, true}) {
        for (const std::string& prefix : {std::string(), wrapped}) {
            SCOPED_TRACE(prefix + (pickled ? ", .bin" : ", .safetensors"));
            Files files;
            files.pickled = pickled;
            files.add_lora(q_proj, 8, 8);
            // Padded by one row.
            files.trained[prefix + "model.embed_tokens.weight"] = random_tensor({11, 8}, "F16", 60);
            files.trained[prefix + "model.norm.weight"] = random_tensor({8}, "F16", 61);
            files.trained[prefix + "model.layers.1.input_layernorm.weight"] = random_tensor({8}, "F32", 62);
            testing::internal::CaptureStderr();
            Checkpoint checkpoint = files.merge();
            EXPECT_THAT(testing::internal::GetCapturedStderr(),
                        HasSubstr("the rows of \"model.embed_tokens.weight\" from 10 on are beyond the vocabulary"));
            std::vector<float> rows = files.trained.at(prefix + "model.embed_tokens.weight").values;
            rows.resize(80);
            EXPECT_EQ(numbers_of(find(checkpoint, "model.embed_tokens.weight")), rows);
            EXPECT_EQ(checkpoint.embedding.rows, 10);
            for (const char* const name : {"model.norm.weight", "model.layers.1.input_layernorm.weight"}) {
                EXPECT_EQ(numbers_of(find(checkpoint, name)), files.trained.at(prefix + name).values) << name;
            }
            expect_near(numbers_of(find(checkpoint, q_proj + ".weight")), merged(files, q_proj, 1.5), q_proj);
        }
    }
}

TEST(Adapter, TrainedTensorsAloneAreAnAdapter) {
    Files files;
    files.trained["model.norm.weight"] = random_tensor({8}, "F32", 61);
    Checkpoint checkpoint = files.merge();
    EXPECT_EQ(numbers_of(find(checkpoint, "model.norm.weight")), files.trained.at("model.norm.weight").values);
}

TEST(Adapter, TheEmbeddingsLowRankChangeIsTransposed) {
    for (const bool shared : {false, true}) {
        for (const Index rows : {Index{10}, Index{12}}) {  // 12: padded
            SCOPED_TRACE((shared ? "shared, " : "") + std::to_string(rows) + " rows");
            Files files;
            files.shared = shared;
            const TestTensor a = random_tensor({2, rows}, "F32", 70);
            const TestTensor b = random_tensor({8, 2}, "F32", 71);
            files.adapter[wrapped + embedding + ".lora_embedding_A"] = a;
            files.adapter[wrapped + embedding + ".lora_embedding_B"] = b;
            Checkpoint checkpoint = files.merge();
            const TestTensor& before = files.model.at(embedding + ".weight");
            expect_near(numbers_of(find(checkpoint, embedding + ".weight")),
                        naive_merge(before, transposed(a), transposed(b), 1.5), embedding);
            // PEFT leaves the classifier alone, even where it was the same matrix.
            EXPECT_FALSE(checkpoint.config.shared_classifier);
            EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")),
                      (shared ? before : files.model.at("lm_head.weight")).values);
        }
    }
}

TEST(Adapter, AReplacedEmbeddingReplacesASharedClassifier) {
    const TestTensor tensor = random_tensor({10, 8}, "F32", 80);
    Files trained;
    trained.shared = true;
    trained.trained[embedding + ".weight"] = tensor;
    Checkpoint checkpoint = trained.merge();
    EXPECT_TRUE(checkpoint.config.shared_classifier);
    EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")), tensor.values);

    // modules_to_save makes a copy of its own, unless it is told to keep the two together.
    for (const bool together : {false, true}) {
        Files saved;
        saved.shared = true;
        saved.config["ensure_weight_tying"] = together;
        saved.config["modules_to_save"] = {"embed_tokens"};
        saved.adapter[wrapped + embedding + ".weight"] = tensor;
        checkpoint = saved.merge();
        EXPECT_EQ(numbers_of(find(checkpoint, embedding + ".weight")), tensor.values);
        EXPECT_EQ(checkpoint.config.shared_classifier, together);
        EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")),
                  (together ? tensor : saved.model.at(embedding + ".weight")).values);
    }
}

TEST(Adapter, ASavedEmbeddingLayerIsTheSharedMatrix) {
    Files files;
    files.shared = true;
    files.adapter[wrapped + embedding + ".weight"] = random_tensor({10, 8}, "F32", 81);
    Checkpoint checkpoint = files.merge();
    EXPECT_TRUE(checkpoint.config.shared_classifier) << "it was not in modules_to_save";
    EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")), files.adapter.at(wrapped + embedding + ".weight").values);
}

TEST(Adapter, OfATrainedModulesThreeCopiesTheFirstCounts) {
    for (const bool under_its_name : {true, false}) {
        Files files;
        files.config["modules_to_save"] = {"embed_tokens"};
        const TestTensor trained = random_tensor({10, 8}, "F32", 82);
        if (under_its_name) files.adapter[wrapped + embedding + ".weight"] = trained;
        files.adapter[wrapped + embedding + ".modules_to_save.weight"] = trained;
        files.adapter[wrapped + embedding + ".original_module.weight"] = random_tensor({10, 8}, "F32", 83);
        Checkpoint checkpoint = files.merge();
        EXPECT_EQ(numbers_of(find(checkpoint, embedding + ".weight")), trained.values);
        EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")), files.model.at("lm_head.weight").values);
    }
    Files alone;
    alone.adapter[wrapped + embedding + ".original_module.weight"] = random_tensor({10, 8}, "F32", 83);
    EXPECT_THAT(alone.refusal(), HasSubstr("is there without what was trained in its place"));
}

TEST(Adapter, TheVocabularyGrowsByTokensThatBothMatricesHave) {
    const TestTensor rows = random_tensor({13, 8}, "F32", 84);
    Files both;
    both.adapter[wrapped + embedding + ".weight"] = rows;
    both.adapter[wrapped + "lm_head.weight"] = random_tensor({12, 8}, "F32", 85);
    testing::internal::CaptureStderr();
    Checkpoint checkpoint = both.merge();
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("the rows of \"model.embed_tokens.weight\" from 12 on are beyond the vocabulary"));
    EXPECT_EQ(checkpoint.config.vocabulary, 12);
    EXPECT_EQ(checkpoint.embedding.rows, 12);
    EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")), both.adapter.at(wrapped + "lm_head.weight").values);

    Files shared;
    shared.shared = true;
    shared.adapter[wrapped + embedding + ".weight"] = rows;
    checkpoint = shared.merge();
    EXPECT_EQ(checkpoint.config.vocabulary, 13);
    EXPECT_TRUE(checkpoint.config.shared_classifier);
    EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")), rows.values);
}

TEST(Adapter, RowsOfSingleTokensReplaceTheModels) {
    const std::string delta = ".token_adapter.trainable_tokens_delta";
    const auto rows = [&](Files& files, const json& tokens, Index count) {
        files.config["trainable_token_indices"] = tokens;
        files.adapter[wrapped + embedding + delta] = random_tensor({count, 8}, "F32", 86);
    };
    for (const bool shared : {false, true}) {
        Files files;
        files.shared = shared;
        rows(files, {7, 2}, 2);
        Checkpoint checkpoint = files.merge();
        std::vector<float> expected = files.model.at(embedding + ".weight").values;
        const std::vector<float>& trained = files.adapter.at(wrapped + embedding + delta).values;
        std::copy_n(trained.begin(), 8, expected.begin() + 7 * 8);
        std::copy_n(trained.begin() + 8, 8, expected.begin() + 2 * 8);
        EXPECT_EQ(numbers_of(find(checkpoint, embedding + ".weight")), expected);
        EXPECT_EQ(numbers_of(find(checkpoint, "lm_head.weight")),
                  shared ? expected : files.model.at("lm_head.weight").values);
    }
    const auto refusal = [&](const json& tokens, Index count, bool shared = true) {
        Files files;
        files.shared = shared;
        rows(files, tokens, count);
        return files.refusal();
    };
    EXPECT_EQ(refusal({{"embed_tokens", {11, 3, 10}}}, 3), "accepted") << "tokens 10 and 11 are new";
    EXPECT_THAT(refusal({12, 3, 10}, 3), HasSubstr("rows for tokens up to 12, but not for all from 10 on"));
    EXPECT_THAT(refusal({2147483647}, 1), HasSubstr("up to 2147483647, but not for all"));
    EXPECT_THAT(refusal({2147483648}, 1), HasSubstr("trainable_token_indices is 2147483648, must be token ids"));
    EXPECT_THAT(refusal({-1}, 1), HasSubstr("trainable_token_indices is -1, must be token ids"));
    EXPECT_THAT(refusal({{"embed_tokens", 3}}, 1),
                HasSubstr("trainable_token_indices.embed_tokens is 3, must be a li"));
    EXPECT_THAT(refusal({1, 2, 3}, 2), HasSubstr("has the shape [2, 8], must be [3, 8]"));
    EXPECT_THAT(refusal(nullptr, 2), HasSubstr("is there without trainable_token_indices"));
}

TEST(Adapter, KindsOfAdaptersThatAreNotUnderstoodAreRefusedByName) {
    const auto refusal = [](const json& changes) {
        Files files;
        files.config = adapter_config(changes);
        files.add_lora(q_proj, 8, 8);
        return files.refusal();
    };
    EXPECT_EQ(refusal(json::object()), "accepted");
    EXPECT_EQ(refusal({{"layer_replication", nullptr}, {"target_parameters", json::array()}}), "accepted");
    EXPECT_EQ(refusal({{"target_modules", "all-linear"}, {"exclude_modules", {"lm_head"}}, {"fan_in_fan_out", true}}),
              "accepted")
        << "the tensors say which modules";
    EXPECT_EQ(refusal({{"layers_to_transform", {0}}, {"layers_pattern", "layers"}, {"init_lora_weights", "mica"}}),
              "accepted");
    EXPECT_THAT(refusal({{"alora_invocation_tokens", {1, 2}}}),
                HasSubstr("alora_invocation_tokens is a list, not sup"));
    EXPECT_THAT(refusal({{"modules_to_save", "lm_head"}}), HasSubstr("modules_to_save is \"lm_head\", must be a list"));
    EXPECT_THAT(refusal({{"peft_type", "IA3"}}), HasSubstr("peft_type is \"IA3\", must be \"LORA\""));
    EXPECT_THAT(refusal({{"peft_type", nullptr}}), HasSubstr("peft_type is missing"));
    EXPECT_THAT(refusal({{"bias", "all"}}), HasSubstr("bias is \"all\""));
    for (const char* const key : {"use_dora", "lora_bias", "use_qalora"}) {
        EXPECT_THAT(refusal({{key, true}}), HasSubstr(std::string(key) + " is true, not supported"));
    }
    EXPECT_THAT(refusal({{"layer_replication", json::array({{0, 1}})}}), HasSubstr("layer_replication is a list"));
    EXPECT_THAT(refusal({{"init_lora_weights", "pissa"}}), HasSubstr("init_lora_weights is \"pissa\""));
    EXPECT_THAT(refusal({{"r", 0}}), HasSubstr("the rank of \"" + q_proj + "\" is 0"));
    EXPECT_THAT(refusal({{"r", "2"}}), HasSubstr("r is \"2\""));
    EXPECT_THAT(refusal({{"r", nullptr}}), HasSubstr("r is missing"));
    EXPECT_THAT(refusal({{"r", 3}}), HasSubstr("lora_B.weight\" has the shape [8, 2], must be [8, 3]"));
    EXPECT_THAT(refusal({{"lora_alpha", nullptr}}), HasSubstr("lora_alpha is missing"));
    EXPECT_THAT(refusal({{"rank_pattern", {{"q_proj", 1.5}}}}), HasSubstr("is 1.5"));
    EXPECT_THAT(refusal({{"rank_pattern", {{"q_proj", -1}}}}), HasSubstr("the rank of"));
    EXPECT_THAT(refusal({{"alpha_pattern", {{"q_proj", "x"}}}}), HasSubstr("alpha_pattern.q_proj is \"x\""));
    EXPECT_THAT(refusal({{"alpha_pattern", {1}}}), HasSubstr("no JSON object"));
}

TEST(Adapter, PatternsAreAsManyAsModulesMayBe) {
    json patterns = json::object();
    for (int i = 0; i <= 65536; ++i) patterns["module" + std::to_string(i)] = 2;
    for (const char* const key : {"rank_pattern", "alpha_pattern"}) {
        Files files;
        files.config = adapter_config({{key, patterns}});
        files.add_lora(q_proj, 8, 8);
        EXPECT_THAT(files.refusal(), HasSubstr(std::string(key) + " has more than 65536 keys"));
    }
}

TEST(Adapter, TensorsThatFitNothingAreRefusedByName) {
    const auto refusal = [](const std::string& key, const TestTensor& tensor) {
        Files files;
        files.add_lora(q_proj, 8, 8);
        files.adapter[wrapped + key] = tensor;
        return files.refusal();
    };
    const TestTensor square = random_tensor({8, 8}, "F32", 1);
    EXPECT_THAT(refusal("model.layers.2.self_attn.q_proj.weight", square), HasSubstr("fits nothing in the model"));
    EXPECT_THAT(refusal("model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight", square),
                HasSubstr("fits nothing"));
    EXPECT_THAT(refusal("x", square), HasSubstr("tensor \"base_model.model.x\" fits nothing"));
    EXPECT_THAT(refusal("model.norm.weight", square), HasSubstr("[8, 8], must be [8]"));
    EXPECT_THAT(refusal("model.embed_tokens.weight", square), HasSubstr("[8, 8] for weights of [10, 8]"))
        << "rows are missing";
    EXPECT_THAT(refusal("model.embed_tokens.weight", random_tensor({10, 9}, "F32", 1)), HasSubstr("must be [10, 8]"));
    EXPECT_THAT(refusal("model.layers.0.mlp.up_proj.weight", random_tensor({13, 8}, "F32", 1)),
                HasSubstr("[13, 8] for weights of [12, 8]"))
        << "only a vocabulary may have more rows";
    EXPECT_THAT(refusal("model.layers.0.mlp.up_proj.lora_A.weight", random_tensor({2, 8}, "F32", 1)),
                HasSubstr("is there without its lora_B"));
    EXPECT_THAT(refusal("model.embed_tokens.lora_embedding_B", random_tensor({8, 2}, "F32", 1)),
                HasSubstr("is there without its lora_A"));
    EXPECT_THAT(refusal(q_proj + ".lora_B.weight", random_tensor({9, 2}, "F32", 1)), HasSubstr("[9, 2]"));
    EXPECT_THAT(refusal(q_proj + ".lora_B.weight", random_tensor({8}, "F32", 1)), HasSubstr("must have two axes"));
    EXPECT_THAT(refusal(q_proj + ".lora_B.weight", random_tensor({8, 3}, "F32", 1)), HasSubstr("must be [8, 2]"));
    EXPECT_THAT(refusal(q_proj + ".lora_A.weight", random_tensor({2, 9}, "F32", 1)), HasSubstr("must be [2, 8]"));

    Files norm;
    norm.add_lora("model.norm", 8, 8);
    EXPECT_THAT(norm.refusal(), HasSubstr("fits nothing in the model"));
    Files table;
    table.add_lora(embedding, 10, 8);
    EXPECT_THAT(table.refusal(), HasSubstr("fits nothing in the model"));
}

TEST(Adapter, ADirectoryWithoutAdapterSaysWhatWasLookedFor) {
    Files files;
    EXPECT_THAT(files.refusal(), HasSubstr("no adapter (looked for adapter_model and trainable_params"));
    Files empty;
    empty.pickled = true;
    empty.adapter_directory.write("adapter_model.safetensors", make_safetensors({}));
    EXPECT_THAT(empty.refusal(), HasSubstr("adapter_model.safetensors: has no tensors, so it is no adapter"));
    Files without_config;
    without_config.add_lora(q_proj, 8, 8);
    without_config.merge();
    std::filesystem::remove(without_config.adapter_directory / "adapter_config.json");
    Checkpoint checkpoint = read_hugging_face(without_config.model_directory.path());
    EXPECT_THROW(merge_adapter(checkpoint, without_config.adapter_directory.path()), FileError);
}

TEST(Adapter, RowsThatRotateAsNeighboursAreSortedFirst) {
    Files files;
    files.add_lora(q_proj, 8, 8);
    Checkpoint expected = files.merge();

    Checkpoint checkpoint = read_hugging_face(files.model_directory.path());
    const Index head_dim = checkpoint.config.head_dim;
    std::vector<std::vector<std::byte>> kept;
    for (LayerWeights& layer : checkpoint.layers) {
        for (Weights* const matrix : {&layer.wq, &layer.wk}) {
            std::vector<std::byte>& rows = kept.emplace_back();
            for (Index r = 0; r < matrix->rows; ++r) {
                const Index first = r / head_dim * head_dim, i = r - first;
                const std::byte* const from = matrix->row(first + i % 2 * (head_dim / 2) + i / 2);
                rows.insert(rows.end(), from, from + matrix->row_bytes());
            }
            matrix->data = rows.data();
        }
    }
    checkpoint.config.rope_pairing = freqkv::RopePairing::adjacent;
    merge_adapter(checkpoint, files.adapter_directory.path());
    EXPECT_EQ(checkpoint.config.rope_pairing, freqkv::RopePairing::half_split);
    const std::vector<NamedWeights> actual = named_weights(checkpoint), wanted = named_weights(expected);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        EXPECT_EQ(numbers_of(actual[i]), numbers_of(wanted[i])) << wanted[i].name;
    }
}

TEST(Adapter, QuantisedWeightsAreMergedAsFloats) {
    Files files;
    files.add_lora(q_proj, 8, 8);
    Checkpoint checkpoint = files.merge();
    constexpr Index columns = 32;
    std::uint32_t seed = 5;
    const std::string rows = test::tensor_data(WeightType::q4_0, 8 * columns, seed);
    checkpoint.layers[0].wv = {reinterpret_cast<const std::byte*>(rows.data()), WeightType::q4_0, 8, columns};
    checkpoint.config.dim = columns;
    checkpoint.config.kv_heads = 8 / checkpoint.config.head_dim;
    const Weights quantised = checkpoint.layers[0].wv;
    files.adapter.clear();
    files.add_lora("model.layers.0.self_attn.v_proj", 8, columns);
    files.adapter_directory.write("adapter_model.safetensors", make_safetensors(files.adapter));
    merge_adapter(checkpoint, files.adapter_directory.path());
    const TestTensor &a = files.adapter[wrapped + "model.layers.0.self_attn.v_proj.lora_A.weight"],
                     &b = files.adapter[wrapped + "model.layers.0.self_attn.v_proj.lora_B.weight"];
    TestTensor before{"F32", {8, columns}, std::vector<float>(8 * columns)};
    dequantize_rows(quantised, 0, 8, before.values.data());
    const std::vector<double> expected = naive_merge(before, b, a, 1.5);
    const auto* const merged = reinterpret_cast<const float*>(checkpoint.layers[0].wv.data);
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(merged[i], expected[i], 1e-5) << i;
}

TEST(Adapter, NormsWithTheirOffsetInThemAreRefused) {
    Files files;
    files.add_lora(q_proj, 8, 8);
    Checkpoint checkpoint = files.merge();
    checkpoint.config.output_norms = true;
    EXPECT_THAT(test::refusal_of([&] { merge_adapter(checkpoint, files.adapter_directory.path()); }),
                HasSubstr("norms with their offset in them"));
}

}  // namespace
}  // namespace llama
