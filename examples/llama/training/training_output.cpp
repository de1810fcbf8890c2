// SPDX-License-Identifier: MIT
#include "llama/training/training_output.hpp"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/adapter_writer.hpp"
#include "llama/io/file.hpp"
#include "llama/io/usage_error.hpp"

namespace llama {

namespace fs = std::filesystem;

TrainingOutput::TrainingOutput(std::string directory, WeightType type, ModelSource source, bool resume)
    : directory_(std::move(directory)), type_(type), source_(std::move(source)) {
    if (!source_.tokenizer.empty()) check_companion_tokenizer(source_.tokenizer);
    std::error_code error;
    const bool has_state = fs::exists(state_path(), error);
    if (resume && !has_state) {
        throw UsageError("--resume: " + state_path() + " does not exist; there is nothing to go on from");
    }
    if (!resume && fs::exists(directory_, error) && !fs::is_empty(directory_, error)) {
        throw FileError(directory_, has_state ? "holds a training that was not finished; --resume goes on"
                                              : "exists; must be new or an empty directory");
    }
    error.clear();
    fs::create_directories(directory_, error);
    if (error) throw FileError(directory_, error.message());
}

// The state is the last: what it says is done is there.
void TrainingOutput::save(const TrainableLlama& model, const nlohmann::ordered_json& made_with,
                          const TrainingProgress& progress, std::span<const TrainingTensor> tensors) const {
    check_training_state(state_path(), progress, tensors);
    if (const LoraOptions* const lora = model.lora()) {
        save_adapter(model, *lora);
    } else {
        write_hugging_face(directory_, model.checkpoint(), type_, source_);
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

void TrainingOutput::save_adapter(const TrainableLlama& model, const LoraOptions& lora) const {
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
    write_adapter(directory_, adapter, type_);
}

}  // namespace llama
