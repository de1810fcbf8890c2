// SPDX-License-Identifier: MIT
#include "llama/training/trainable_llama.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <string_view>
#include <tuple>
#include <utility>

#include <Eigen/Core>

#include "freqkv/error.hpp"
#include "llama/formats/hugging_face.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/random.hpp"

namespace llama {

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// A standard normal number (Box and Muller 1958).
double normal(Random& random) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

Index count_elements(const std::vector<Index>& shape) {
    Index count = 1;
    for (const Index size : shape) count = freqkv::checked_product("weights", count, size);
    return count;
}

}  // namespace

TrainableLlama::TrainableLlama(const Config& config, std::uint64_t seed) : parts_(TrainedParts::all()) {
    lay_out(config);
    Random random(seed);
    const double into_stream = 0.02 / std::sqrt(2 * static_cast<double>(config.layers));
    for (const TrainableTensor& tensor : tensors_) {
        const bool narrow = tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight");
        const double deviation = narrow ? into_stream : 0.02;
        const bool norm = tensor.name.ends_with("norm.weight");
        for (float& x :
             trained().subspan(static_cast<std::size_t>(tensor.first), static_cast<std::size_t>(tensor.size))) {
            if (tensor.is_matrix()) {
                x = static_cast<float>(deviation * normal(random));
            } else {
                x = norm ? 1.0f : 0.0f;
            }
        }
    }
}

TrainableLlama::TrainableLlama(const Checkpoint& source, const std::optional<LoraOptions>& lora, std::uint64_t seed,
                               const TrainedParts& parts)
    : parts_(parts), lora_(lora) {
    if (lora_) {
        freqkv::require(lora_->rank >= 1, "rank", lora_->rank, "must be at least 1");
        freqkv::require(std::isfinite(lora_->alpha), "alpha", lora_->alpha, "must be finite");
    }
    lay_out(source.config);
    copy_weights(source);
    if (lora_) add_adaptations(*lora_, seed);
}

void TrainableLlama::add_trained(const std::string& name, const std::vector<Index>& shape) {
    const Index first = tensors_.empty() ? 0 : tensors_.back().first + tensors_.back().size;
    tensors_.push_back({name, shape, first, count_elements(shape)});
}

// Gives every weight its place, not its numbers.
void TrainableLlama::lay_out(const Config& config) {
    checkpoint_.config = config;
    checkpoint_.format = "in training";
    checkpoint_.layers.resize(static_cast<std::size_t>(config.layers));
    std::vector<std::pair<NamedWeights, Index>> places;  // and the number of its trained tensor, or frozen
    for (NamedWeights& weights : named_weights(checkpoint_)) {
        if (weights.matrix == &checkpoint_.classifier && config.shared_classifier) continue;
        const bool of_projection = TrainedParts::is_projection(weights.name) || weights.name.ends_with(".bias");
        const bool trains = parts_.contain_tensor(weights.name) && !(lora_ && of_projection);
        const Index number = trains ? static_cast<Index>(tensors_.size()) : frozen;
        if (trains) add_trained(weights.name, weights.shape);
        places.emplace_back(std::move(weights), number);
    }
    for (const auto& [weights, number] : places) {
        if (!lora_ || !TrainedParts::is_projection(weights.name) || !parts_.contain_tensor(weights.name)) continue;
        const std::string module = weights.name.substr(0, weights.name.size() - std::string_view(".weight").size());
        add_trained(module + ".lora_A.weight", {lora_->rank, weights.shape[1]});
        add_trained(module + ".lora_B.weight", {weights.shape[0], lora_->rank});
    }
    freqkv::require(!tensors_.empty(), "trained parts", 0, "must be some that the model has");
    trained_ = freqkv::AlignedBuffer<float>(tensors_.back().first + tensors_.back().size);
    for (auto& [weights, number] : places) {
        const float* const data = number == frozen ? checkpoint_.allocate_floats(count_elements(weights.shape))
                                                   : trained_.data() + tensors_[static_cast<std::size_t>(number)].first;
        if (weights.vector != nullptr) {
            *weights.vector = data;
        } else {
            *weights.matrix = llama::weights(data, weights.shape[0], weights.shape[1]);
        }
    }
    if (config.shared_classifier) checkpoint_.classifier = checkpoint_.embedding;
}

void TrainableLlama::copy_weights(const Checkpoint& source) {
    checkpoint_.path = source.path;
    Checkpoint from = source.view();
    const std::vector<NamedWeights> originals = named_weights(from);
    const std::vector<NamedWeights> copies = named_weights(checkpoint_);
    for (std::size_t i = 0; i < copies.size(); ++i) {
        const NamedWeights& original = originals[i];
        const NamedWeights& copy = copies[i];
        if (copy.vector != nullptr) {
            std::copy_n(*original.vector, copy.shape[0], const_cast<float*>(*copy.vector));
            continue;
        }
        auto* const to = reinterpret_cast<float*>(const_cast<std::byte*>(copy.matrix->data));
        dequantize_rows(*original.matrix, 0, copy.shape[0], to);
    }
}

void TrainableLlama::add_adaptations(const LoraOptions& lora, std::uint64_t seed) {
    Random random(seed);
    // The factors are the last tensors, in the order of the layers and of these projections.
    auto factor = std::find_if(tensors_.begin(), tensors_.end(),
                               [](const TrainableTensor& t) { return t.name.ends_with(".lora_A.weight"); });
    for (LayerWeights& layer : checkpoint_.layers) {
        LoraLayer& places = lora_layers_.emplace_back();
        const std::array<std::tuple<const char*, Weights*, std::optional<LoraPlaces>*>, 7> projections{
            {{"q", &layer.wq, &places.q},
             {"k", &layer.wk, &places.k},
             {"v", &layer.wv, &places.v},
             {"o", &layer.wo, &places.o},
             {"gate", &layer.gate, &places.gate},
             {"up", &layer.up, &places.up},
             {"down", &layer.down, &places.down}}};
        for (const auto& [part, projection, factors] : projections) {
            if (!parts_.contain(part)) continue;
            const TrainableTensor& a = *factor++;
            const TrainableTensor& b = *factor++;
            const LoraPlaces both{a.first, b.first};
            *factors = both;
            // Kaiming's uniform distribution with a slope of sqrt(5): variance 1 / (3 inputs).
            const double width = 2 / std::sqrt(static_cast<double>(a.shape[1]));
            for (Index i = 0; i < a.size; ++i) {
                trained_.data()[a.first + i] = static_cast<float>((random.uniform() - 0.5) * width);
            }
            std::fill_n(trained_.data() + b.first, b.size, 0.0f);
            Adapted adapted{both,
                            lora,
                            projection->rows,
                            projection->columns,
                            reinterpret_cast<const float*>(projection->data),
                            checkpoint_.allocate_floats(projection->rows * projection->columns)};
            *projection = weights(adapted.merged, adapted.rows, adapted.columns);
            adapted_.push_back(adapted);
        }
    }
    refresh();
}

Index TrainableLlama::position(const void* weight) const {
    const auto* const p = static_cast<const float*>(weight);
    const float* const begin = trained_.data();
    const float* const end = begin + trained_.size();
    const std::less<const float*> before;
    return before(p, begin) || !before(p, end) ? frozen : p - begin;
}

void TrainableLlama::refresh() {
    for (const Adapted& adapted : adapted_) {
        const Eigen::Map<const Matrix> a(trained_.data() + adapted.factors.a, adapted.lora.rank, adapted.columns);
        const Eigen::Map<const Matrix> b(trained_.data() + adapted.factors.b, adapted.rows, adapted.lora.rank);
        Eigen::Map<Matrix> merged(adapted.merged, adapted.rows, adapted.columns);
        merged = Eigen::Map<const Matrix>(adapted.base, adapted.rows, adapted.columns);
        merged.noalias() += static_cast<float>(adapted.lora.scale()) * b * a;
    }
}

}  // namespace llama
