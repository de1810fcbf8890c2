// SPDX-License-Identifier: MIT
#include "llama/training/training_state.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <nlohmann/json.hpp>

#include "llama/formats/safetensors.hpp"
#include "llama/formats/tensor_file.hpp"
#include "llama/io/file.hpp"
#include "llama/io/format.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/training/made_with.hpp"

namespace llama {

namespace {

constexpr const char* metadata_key = "training";

void check_finite(const std::string& path, const TrainingTensor& tensor) {
    const auto bad = std::find_if_not(tensor.numbers.begin(), tensor.numbers.end(),
                                      [](float number) { return std::isfinite(number); });
    if (bad != tensor.numbers.end()) {
        throw FileError(path, "not written: tensor " + in_quotes(tensor.name) + " has an element that is " +
                                  format_number(static_cast<double>(*bad)) + ", at " +
                                  std::to_string(bad - tensor.numbers.begin()));
    }
}

void check_finite(const std::string& path, const LossPoint& point) {
    const double validation = point.validation_loss.value_or(0);
    for (const double number : {point.learning_rate, point.loss, point.gradient_norm, point.seconds, validation}) {
        if (!std::isfinite(number)) {
            throw FileError(path, "not written: step " + std::to_string(point.step) + " has among its losses what is " +
                                      format_number(number));
        }
    }
}

nlohmann::json to_json(const LossPoint& point) {
    nlohmann::json row = {point.step,    point.tokens, point.learning_rate, point.loss, point.gradient_norm,
                          point.seconds, nullptr};
    if (point.validation_loss) row.back() = *point.validation_loss;
    return row;
}

LossPoint parse_point(const std::string& path, const nlohmann::json& row) {
    const bool is_row = row.is_array() && row.size() == 7 && JsonObject::as_whole(row[0]) &&
                        JsonObject::as_whole(row[1]) &&
                        std::all_of(row.begin(), row.end() - 1, [](const auto& value) { return value.is_number(); }) &&
                        (row[6].is_number() || row[6].is_null());
    if (!is_row) throw FileError(path, "has the losses " + row.dump().substr(0, 64) + ", which are no step's");
    LossPoint point{row[0], row[1], row[2], row[3], row[4], row[5], std::nullopt};
    if (row[6].is_number()) point.validation_loss = row[6].get<double>();
    return point;
}

void add_point(const std::string& path, const nlohmann::json& row, std::vector<LossPoint>& points) {
    const LossPoint point = parse_point(path, row);
    const Index before = points.empty() ? 0 : points.back().tokens;
    const bool follows =
        point.step == static_cast<Index>(points.size()) + 1 && point.tokens > before && point.tokens <= most_tokens;
    if (!follows) throw FileError(path, "has the losses " + row.dump() + " out of order");
    points.push_back(point);
}

TrainingProgress parse_progress(const std::string& path, const nlohmann::json& json, std::vector<LossPoint> points) {
    const JsonObject object(json, path, "training.");
    TrainingProgress progress;
    progress.step = object.required_whole("step");
    if (progress.step < 0) object.fail("step", progress.step, "must not be negative");
    const nlohmann::json* const rows = object.find("losses");
    if (rows == nullptr || !rows->is_array()) throw FileError(path, "has no list of losses");
    progress.points = std::move(points);
    if (static_cast<Index>(progress.points.size()) != progress.step) {
        object.fail("step", progress.step,
                    "must be the number of steps with losses, " + std::to_string(progress.points.size()));
    }
    return progress;
}

// What was saved; the losses, which are many, as `points`.
nlohmann::json read_saved(const TensorFile& file, std::vector<LossPoint>& points) {
    const auto saved = file.metadata.find(metadata_key);
    if (saved == file.metadata.end()) throw FileError(file.path, "no state of a training");
    const auto take = [&](const std::string&, const nlohmann::json& row) {
        add_point(file.path, row, points);
        return true;
    };
    const JsonMembers losses[] = {{"/losses", JsonMembers::Of::array, take}};
    return parse_json(std::as_bytes(std::span(saved->second)), file.path, losses);
}

void check_options(const std::string& path, const nlohmann::json& saved, const nlohmann::ordered_json& options) {
    const auto before = saved.find("options");
    if (before == saved.end() || !before->is_object()) throw FileError(path, "has no options of a training");
    const auto changed = find_changed_option(*before, options);
    if (!changed) return;
    if (changed->name == "weights") throw UsageError("--model: " + path + " was started from other weights");
    if (changed->name == "data") {
        throw UsageError("--text, --token-file or --instructions: " + path + " was started with other data");
    }
    const auto with = [](const nlohmann::json& value) { return value.is_null() ? "without" : "with " + value.dump(); };
    throw UsageError("--" + changed->name + ": " + path + " was started " + with(changed->before) + ", not " +
                     with(changed->now));
}

// The stored tensors in the order of `tensors`.
std::vector<const StoredTensor*> find_tensors(const TensorFile& file, std::span<const TrainingTensor> tensors) {
    std::vector<const StoredTensor*> found;
    for (const TrainingTensor& tensor : tensors) {
        const auto stored = file.tensors.find(tensor.name);
        if (stored == file.tensors.end())
            throw FileError(file.path, "tensor " + in_quotes(tensor.name) + " is missing");
        const TensorReference reference{file.path, stored->first, stored->second};
        if (reference.type() != WeightType::f32) reference.fail("is " + stored->second.type + ", must be F32");
        reference.check_shape({static_cast<Index>(tensor.numbers.size())});
        found.push_back(&stored->second);
    }
    if (file.tensors.size() != tensors.size()) {
        throw FileError(file.path, "has " + std::to_string(file.tensors.size()) + " tensors, must have " +
                                       std::to_string(tensors.size()));
    }
    return found;
}

}  // namespace

void check_training_state(const std::string& path, const TrainingProgress& progress,
                          std::span<const TrainingTensor> tensors) {
    for (const LossPoint& point : progress.points) check_finite(path, point);
    for (const TrainingTensor& tensor : tensors) check_finite(path, tensor);
}

void write_training_state(const std::string& path, const nlohmann::ordered_json& options,
                          const TrainingProgress& progress, std::span<const TrainingTensor> tensors) {
    check_training_state(path, progress, tensors);
    nlohmann::json losses = nlohmann::json::array();
    for (const LossPoint& point : progress.points) losses.push_back(to_json(point));
    const nlohmann::json training = {{"options", options}, {"step", progress.step}, {"losses", std::move(losses)}};
    if (progress.step == 0) tensors = {};
    std::vector<TensorToWrite> to_write;
    for (const TrainingTensor& tensor : tensors) {
        const auto count = static_cast<Index>(tensor.numbers.size());
        to_write.push_back({tensor.name, {count}, weights(tensor.numbers.data(), 1, count)});
    }
    write_safetensors(path, to_write, {}, {{metadata_key, training.dump()}});
}

TrainingProgress read_training_state(const std::string& path, const nlohmann::ordered_json& options,
                                     std::span<const TrainingTensor> tensors) {
    const TensorFile file = read_safetensors(path);
    std::vector<LossPoint> points;
    const nlohmann::json saved = read_saved(file, points);
    TrainingProgress progress = parse_progress(path, saved, std::move(points));
    check_options(path, saved, options);
    const auto steps = options.find("steps");
    if (steps != options.end() && progress.step > steps->get<Index>()) {
        JsonObject(saved, path, "training.").fail("step", progress.step, "must be at most " + steps->dump());
    }
    if (progress.step == 0) tensors = {};
    const std::vector<const StoredTensor*> found = find_tensors(file, tensors);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        if (!tensors[i].numbers.empty()) {
            std::memcpy(tensors[i].numbers.data(), found[i]->bytes.data(), found[i]->bytes.size());
        }
    }
    return progress;
}

bool is_state_of_beginning(const std::string& path) {
    try {
        std::vector<LossPoint> points;
        const nlohmann::json saved = read_saved(read_safetensors(path), points);
        return parse_progress(path, saved, std::move(points)).step == 0;
    } catch (const FileError&) {
        return false;
    }
}

std::map<std::string, std::string> training_metadata(const nlohmann::ordered_json& options, Index step) {
    return {{metadata_key, nlohmann::json({{"options", options}, {"step", step}}).dump()}};
}

bool is_of_finished_training(const std::string& path, const nlohmann::ordered_json* options) {
    if (!file_exists(path)) return false;
    const TensorFile file = read_safetensors(path);
    if (!file.metadata.contains(metadata_key)) return false;
    std::vector<LossPoint> points;
    const nlohmann::json saved = read_saved(file, points);
    const nlohmann::json::json_pointer steps("/options/steps");
    if (!saved.is_object() || !saved.contains(steps) || !saved.contains("step") || saved[steps] != saved["step"]) {
        return false;
    }
    if (options != nullptr) check_options(path, saved, *options);
    return true;
}

}  // namespace llama
