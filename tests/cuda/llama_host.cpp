// SPDX-License-Identifier: MIT
#include "llama_host.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/random_checkpoint.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/loss.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/model/random.hpp"
#include "llama/program/host_models.hpp"
#include "llama/temporary_directory.hpp"

namespace llama::test {

namespace {

const std::string shared = FREQKV_SHARED_DIR;

std::vector<double> flat(const nlohmann::json& list) {
    std::vector<double> values;
    for (const auto& token : list) {
        for (const auto& head : token) {
            for (const double value : head) values.push_back(value);
        }
    }
    return values;
}

// A block of 32 as GGUF has it: a half, and as many signed bytes.
void quantize(const float* from, std::byte* to) {
    float largest = 0;
    for (Index i = 0; i < 32; ++i) largest = std::max(largest, std::abs(from[i]));
    from_floats(std::array{largest / 127}.data(), WeightType::f16, 1, to);
    float scale = 0;
    to_floats(to, WeightType::f16, 1, &scale);
    for (Index i = 0; i < 32; ++i) {
        const auto number = static_cast<std::int8_t>(scale > 0 ? std::lround(from[i] / scale) : 0);
        std::memcpy(to + 2 + i, &number, 1);
    }
}

Weights stored_as(const Weights& matrix, WeightType type, Checkpoint& owner) {
    Weights result{nullptr, type, matrix.rows, matrix.columns};
    std::byte* const to = owner.allocate(result.bytes());
    std::vector<float> row(static_cast<std::size_t>(matrix.columns));
    for (Index r = 0; r < matrix.rows; ++r) {
        dequantize(matrix, r, 0, matrix.columns, row.data());
        std::byte* const row_to = to + r * result.row_bytes();
        if (type != WeightType::q8_0) {
            from_floats(row.data(), type, matrix.columns, row_to);
            continue;
        }
        for (Index i = 0; i < matrix.columns; i += 32) quantize(row.data() + i, row_to + i / 32 * 34);
    }
    result.data = to;
    return result;
}

}  // namespace

std::optional<GoldenCase> read_golden_case(const std::string& name) {
    std::ifstream file(shared + "/golden/" + name + ".json");
    if (!file) return std::nullopt;
    nlohmann::json json;
    file >> json;
    GoldenCase golden;
    golden.policy = json["policy"] == "low_pass" ? "low-pass" : "local-window";
    golden.sizes = {json["capacity"], json["sinks"], json["recent"]};
    golden.ratio = json["ratio"];
    golden.losses = json["nll"].get<std::vector<double>>();
    golden.perplexity = json["perplexity"];
    golden.compressions = json["compressions"];
    golden.final_size = json["final_size"];
    for (const auto& state : json["states"]) {
        golden.states.push_back(
            {state["layer"], state["compression"], state["size"], flat(state["keys"]), flat(state["values"])});
    }
    std::ifstream ids(shared + "/golden/tokens.txt");
    for (Token id = 0; golden.tokens.size() < json["tokens"].get<std::size_t>() && ids >> id;) {
        golden.tokens.push_back(id);
    }
    return golden;
}

Checkpoint open_golden_model() { return open_checkpoint(shared + "/models/stories260K.bin"); }

double loss_of(std::span<const float> logits, Token target) { return negative_log_likelihood(logits, target); }

Checkpoint random_model(Config config, std::uint64_t seed) {
    const TemporaryDirectory directory;
    return open_checkpoint(
        directory.write("model.bin", random_checkpoint(std::move(config), CheckpointFormat::version_1, seed)));
}

Checkpoint stored_as(const Checkpoint& checkpoint, WeightType type) {
    Checkpoint result = checkpoint.view();
    result.embedding = stored_as(checkpoint.embedding, type, result);
    const bool is_shared = checkpoint.classifier.data == checkpoint.embedding.data;
    result.classifier = is_shared ? result.embedding : stored_as(checkpoint.classifier, type, result);
    for (LayerWeights& layer : result.layers) {
        for (Weights* const matrix :
             {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.gate, &layer.up, &layer.down}) {
            *matrix = stored_as(*matrix, type, result);
        }
    }
    return result;
}

void add_biases(Checkpoint& checkpoint, std::uint64_t seed) {
    Random random(seed);
    const auto bias = [&](Index count) {
        float* const values = checkpoint.allocate_floats(count);
        for (Index i = 0; i < count; ++i) values[i] = static_cast<float>(2 * random.uniform() - 1);
        return values;
    };
    checkpoint.config.attention_bias = true;
    for (LayerWeights& layer : checkpoint.layers) {
        layer.q_bias = bias(layer.wq.rows);
        layer.k_bias = bias(layer.wk.rows);
        layer.v_bias = bias(layer.wv.rows);
    }
}

std::vector<float> host_logits(const Checkpoint& checkpoint, const CacheSettings& settings,
                               std::span<const Token> tokens) {
    CacheSettings of_host = settings;
    of_host.type = CacheType::f32;
    const std::unique_ptr<LanguageModel> model = make_host_model(checkpoint, of_host, 1);
    std::vector<float> result;
    for (const Token& token : tokens) {
        model->forward({&token, 1});
        const std::span<const float> logits = model->logits();
        result.insert(result.end(), logits.begin(), logits.end());
    }
    return result;
}

}  // namespace llama::test
