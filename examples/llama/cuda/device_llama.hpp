// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>

#include "llama/model/checkpoint.hpp"
#include "llama/model/config.hpp"
#include "llama/model/weights.hpp"

namespace llama {

/// How a Llama on a GPU keeps its text.
struct DeviceSettings {
    std::string policy;                       ///< "low-pass", "local-window" or "full"
    double ratio = 0.5;                       ///< of the first two
    CacheSizes sizes{};                       ///< "full": capacity is the whole text, for the cache cannot grow
    WeightType cache_type = WeightType::f32;  ///< f32, f16 or bf16
    Index chunk = 1;                          ///< tokens that are likely to be fed at once
};

/// What became of the text in one layer.
class CacheCounts {
public:
    CacheCounts(Index size, Index capacity, Index compressions)
        : size_(size), capacity_(capacity), compressions_(compressions) {}

    Index size() const { return size_; }
    Index capacity() const { return capacity_; }
    Index compressions() const { return compressions_; }

private:
    Index size_, capacity_, compressions_;
};

/// A Llama on a GPU, to code that no CUDA compiler reads: as Llama, but for what the types of that say.
class DeviceLlama {
public:
    DeviceLlama() = default;
    DeviceLlama(const DeviceLlama&) = delete;
    DeviceLlama& operator=(const DeviceLlama&) = delete;
    virtual ~DeviceLlama() = default;

    virtual const Config& config() const = 0;
    virtual CacheCounts cache(Index layer) const = 0;
    /// Bytes of the keys and values of all layers.
    virtual Index cache_bytes() const = 0;
    /// Forgets the text.
    virtual void clear() = 0;
    /// Feeds tokens; the work may still be under way when it returns. Throws freqkv::Error, without change, for ids
    /// outside the vocabulary and texts that a cache of policy "full" has no room for; CudaError for what the GPU
    /// refuses, after which only clear() leads back to a model of one text.
    virtual void forward(std::span<const Token> tokens) = 0;
    /// Logits [count, vocabulary] after tokens [first, first + count) of the latest forward(). Valid until the next
    /// call.
    virtual std::span<const float> logits(Index first, Index count) = 0;
    /// Logits [vocabulary] after the last token of the latest forward().
    virtual std::span<const float> logits() = 0;
};

/// Throws std::runtime_error if there is no GPU.
void check_device();

/// Takes the weights to the current GPU; the checkpoint is needed no longer then. Throws std::runtime_error where its
/// memory is too small, and for quantised weights that f16 cannot hold.
std::unique_ptr<DeviceLlama> open_device_llama(const Checkpoint& checkpoint, const DeviceSettings& settings);

/// What the program finds in the module that it loads for --device cuda.
struct DeviceModule {
    void (*check_device)();
    std::unique_ptr<DeviceLlama> (*open)(const Checkpoint& checkpoint, const DeviceSettings& settings);
};

}  // namespace llama
