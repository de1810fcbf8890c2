// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "freqkv/workspace.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/training/trained_parts.hpp"

namespace llama {

/// Low-rank adaptation (Hu et al. 2021) of projections: W + alpha / rank B A, where A [rank, inputs] and B [outputs,
/// rank] are trained and W is not.
struct LoraOptions {
    Index rank = 8;
    double alpha = 16;

    double scale() const { return alpha / static_cast<double>(rank); }
};

/// Where the two factors of an adapted projection are among the trained numbers.
struct LoraPlaces {
    Index a = 0;  ///< [rank, inputs]
    Index b = 0;  ///< [outputs, rank]
};

/// The adapted projections of a layer.
struct LoraLayer {
    std::optional<LoraPlaces> q, k, v, o, gate, up, down;
};

/// One of the tensors that training changes: elements [first, first + size) of the trained numbers.
struct TrainableTensor {
    std::string name;  ///< Hugging Face's: "model.layers.0.self_attn.q_proj.weight", or "….q_proj.lora_A.weight"
    std::vector<Index> shape;
    Index first = 0;
    Index size = 0;

    bool is_matrix() const { return shape.size() == 2; }
};

/// The weights of a Llama in training, in float. All trained numbers are one array, so that gradients, moments
/// and saved states are arrays of the same length; checkpoint() is the model as everything else sees it, whose
/// weights point into that array or at copies of what is not trained.
class TrainableLlama {
public:
    static constexpr Index frozen = -1;

    /// A new model, all of it trained. Matrices are normal with deviation 0.02, those that write to the residual
    /// stream smaller by sqrt(2 layers), so that the stream's variance does not grow with depth; norms are 1.
    TrainableLlama(const Config& config, std::uint64_t seed);

    /// The model of a checkpoint, of which the given parts are trained. With `lora` those that are projections are
    /// trained by low-rank factors, A uniform as PEFT initialises it, B zero; their biases are not trained then.
    TrainableLlama(const Checkpoint& source, const std::optional<LoraOptions>& lora, std::uint64_t seed,
                   const TrainedParts& parts);

    /// The same with all parts trained; with `lora` those of TrainedParts::of_adapter().
    TrainableLlama(const Checkpoint& source, const std::optional<LoraOptions>& lora, std::uint64_t seed)
        : TrainableLlama(source, lora, seed, lora ? TrainedParts::of_adapter() : TrainedParts::all()) {}

    TrainableLlama(const TrainableLlama&) = delete;
    TrainableLlama& operator=(const TrainableLlama&) = delete;

    const Config& config() const { return checkpoint_.config; }
    /// The model as it is now; of adapted projections as of the latest refresh().
    const Checkpoint& checkpoint() const { return checkpoint_; }

    /// Null without low-rank adaptation.
    const LoraOptions* lora() const { return lora_ ? &*lora_ : nullptr; }
    /// Of each layer; none without low-rank adaptation.
    const std::vector<LoraLayer>& lora_layers() const { return lora_layers_; }

    const std::vector<TrainableTensor>& tensors() const { return tensors_; }
    /// The trained numbers; refresh() after a change.
    std::span<float> trained() { return {trained_.data(), static_cast<std::size_t>(trained_.size())}; }
    std::span<const float> trained() const { return {trained_.data(), static_cast<std::size_t>(trained_.size())}; }

    /// Where a weight of checkpoint() is among the trained numbers, or `frozen`.
    Index position(const void* weight) const;

    /// Brings the adapted projections up to date.
    void refresh();

private:
    // A projection with low-rank adaptation: merged = base + alpha / rank B A.
    struct Adapted {
        LoraPlaces factors;
        LoraOptions lora;
        Index rows = 0;
        Index columns = 0;
        const float* base = nullptr;
        float* merged = nullptr;
    };

    void lay_out(const Config& config);
    void add_trained(const std::string& name, const std::vector<Index>& shape);
    void copy_weights(const Checkpoint& source);
    void add_adaptations(const LoraOptions& lora, std::uint64_t seed);

    Checkpoint checkpoint_;
    TrainedParts parts_;
    std::optional<LoraOptions> lora_;
    std::vector<LoraLayer> lora_layers_;
    std::vector<Adapted> adapted_;
    std::vector<TrainableTensor> tensors_;
    freqkv::AlignedBuffer<float> trained_;
};

}  // namespace llama
