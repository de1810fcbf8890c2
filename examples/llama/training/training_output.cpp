// SPDX-License-Identifier: MIT
#include "llama/training/training_output.hpp"

#include <filesystem>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/adapter_writer.hpp"
#include "llama/io/atomic_file.hpp"
#include "llama/io/file.hpp"
#include "llama/io/temporary.hpp"
#include "llama/io/usage_error.hpp"

namespace llama {

namespace fs = std::filesystem;

TrainingOutput::TrainingOutput(std::string directory, WeightType type, ModelSource source, bool resume)
    : directory_(std::move(directory)), type_(type), source_(std::move(source)) {
    if (!source_.tokenizer.empty()) check_companion_tokenizer(source_.tokenizer);
    std::error_code error;
    if (!resume || fs::exists(directory_, error)) {
        error.clear();
        fs::create_directories(directory_, error);
        if (error) throw FileError(directory_, error.message());
        lock_.emplace(directory_);
        remove_leftovers(directory_);
    }
    check_found(resume);
    if (!over_) AtomicFile probe(state_path());
}

void TrainingOutput::check_found(bool resume) {
    std::error_code error;
    const bool has_state = fs::exists(state_path(), error);
    over_ = !has_state && !finished_weights().empty();
    if (resume) {
        if (has_state || over_) return;
        throw UsageError("--resume: " + state_path() + " does not exist; there is nothing to go on from");
    }
    if (fs::is_empty(directory_, error)) return;
    // A training that began and did nothing else loses nothing.
    const bool alone = std::distance(fs::directory_iterator(directory_), fs::directory_iterator()) == 1;
    if (has_state && alone && is_state_of_beginning(state_path())) return;
    const char* found = "exists; must be new or an empty directory";
    if (has_state) found = "holds a training that was not finished; --resume goes on";
    if (over_) found = "holds a training that is finished; must be new or an empty directory";
    throw FileError(directory_, found);
}

std::string TrainingOutput::finished_weights() const {
    for (const char* const name : {"/model.safetensors", "/adapter_model.safetensors"}) {
        if (is_of_finished_training(directory_ + name)) return directory_ + name;
    }
    return {};
}

bool TrainingOutput::is_finished(const nlohmann::ordered_json& made_with) const {
    return over_ && is_of_finished_training(finished_weights(), &made_with);
}

void TrainingOutput::begin(const nlohmann::ordered_json& made_with) const {
    write_training_state(state_path(), made_with, {}, {});
}

void TrainingOutput::save(const TrainableLlama& model, const nlohmann::ordered_json& made_with,
                          const TrainingProgress& progress, std::span<const TrainingTensor> tensors) const {
    check_training_state(state_path(), progress, tensors);
    const std::map<std::string, std::string> metadata = training_metadata(made_with, progress.step);
    if (const LoraOptions* const lora = model.lora()) {
        save_adapter(model, *lora, metadata);
    } else {
        write_hugging_face(directory_, model.checkpoint(), type_, source_, {}, metadata);
    }
    write_loss_csv(directory_ + "/loss.csv", progress.points);
    write_training_state(state_path(), made_with, progress, tensors);
}

void TrainingOutput::draw(std::span<const LossPoint> points) const {
    write_loss_csv(directory_ + "/loss.csv", points);
    draw_loss_curve(directory_ + "/loss.svg", points);
}

void TrainingOutput::finish() const {
    std::error_code ignored;
    fs::remove(state_path(), ignored);
}

void TrainingOutput::save_adapter(const TrainableLlama& model, const LoraOptions& lora,
                                  const std::map<std::string, std::string>& metadata) const {
    const auto numbers = [&](const TrainableTensor& tensor) {
        const float* const data = model.trained().data() + tensor.first;
        return weights(data, tensor.is_matrix() ? tensor.shape[0] : 1, tensor.shape.back());
    };
    TrainedAdapter adapter;
    adapter.base_model = source_.directory;
    adapter.rank = lora.rank;
    adapter.alpha = lora.alpha;
    adapter.shared_classifier = model.config().shared_classifier;
    const std::vector<TrainableTensor>& tensors = model.tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        constexpr std::string_view factor = ".lora_A.weight";
        const std::string& name = tensors[i].name;
        if (name.ends_with(factor)) {  // B is the next
            const std::string module = name.substr(0, name.size() - factor.size());
            adapter.factors.push_back({module, numbers(tensors[i]), numbers(tensors[i + 1])});
            ++i;
        } else {
            adapter.tensors.push_back({name, tensors[i].shape, numbers(tensors[i])});
        }
    }
    write_adapter(directory_, adapter, type_, metadata);
}

}  // namespace llama
