// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "llama/cuda/device_llama.hpp"
#include "llama/cuda/weight_types.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/matrix_product.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/options.hpp"
#include "llama/program/with_model.hpp"

// For the commands that have --device.
namespace llama {

/// What runs models on a GPU: a file beside the program, which it loads when it is needed first, for it takes cuBLAS
/// some time to be loaded. Throws std::runtime_error if the program was built without it or it cannot be loaded.
const DeviceModule& device_module();

/// Throws std::runtime_error unless there is the device that the options name.
inline void check_device(const ModelOptions& options) {
    if (options.device == "cuda") device_module().check_device();
}

/// resolve() for the device that the options name: on a GPU no cache grows, and the weights say how it stores.
inline CacheSettings resolve(const ModelOptions& options, const Checkpoint& checkpoint, Index expected_tokens) {
    CacheSettings settings = resolve(options, checkpoint.config, expected_tokens);
    if (options.device == "cpu") return settings;
    if (settings.grows()) settings.sizes.capacity = std::max<Index>(expected_tokens, 1);
    if (!options.cache_type) {
        const WeightType type = device_type(checkpoint);
        settings.type = type == WeightType::f16 ? "f16" : type == WeightType::bf16 ? "bf16" : "f32";
    }
    return settings;
}

/// A Llama on a GPU, whose owner has threads for what is left to do.
class OwnedDeviceLlama {
public:
    OwnedDeviceLlama(std::unique_ptr<DeviceLlama> llama, bool grows, const ThreadExecutor& executor)
        : llama_(std::move(llama)), grows_(grows), executor_(executor) {}

    const Config& config() const { return llama_->config(); }
    CacheCounts cache(Index layer) const { return llama_->cache(layer); }
    Index cache_bytes() const { return llama_->cache_bytes(); }
    bool cache_grows() const { return grows_; }
    void clear() { llama_->clear(); }
    void forward(std::span<const Token> tokens) { llama_->forward(tokens); }
    std::span<const float> logits(Index first, Index count) { return llama_->logits(first, count); }
    std::span<const float> logits() { return llama_->logits(); }

    template <class F>
    void share(Index count, Index work, F&& f) const {
        share_exponentials(executor_, count, work, f);
    }

private:
    std::unique_ptr<DeviceLlama> llama_;
    bool grows_;
    ThreadExecutor executor_;
};

/// with_model() on the device that the options name.
template <class F>
auto with_model(const Checkpoint& checkpoint, const CacheSettings& settings, const ModelOptions& options, F&& f) {
    if (options.device == "cpu") return with_model(checkpoint, settings, options.threads, f);
    warn_of_capacity(checkpoint.config, settings);
    DeviceSettings on_device;
    on_device.policy = settings.policy;
    on_device.ratio = settings.ratio;
    on_device.sizes = settings.sizes;
    on_device.cache_type = settings.type == "f16"    ? WeightType::f16
                           : settings.type == "bf16" ? WeightType::bf16
                                                     : WeightType::f32;
    on_device.chunk = std::min(options.prefill_chunk, Index{4096});  // longer ones make room for themselves
    OwnedDeviceLlama model(device_module().open(checkpoint, on_device), settings.grows(),
                           make_executor(options.threads));
    return f(model);
}

}  // namespace llama
