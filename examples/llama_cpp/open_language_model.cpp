// SPDX-License-Identifier: MIT
// In place of the file of the same name in llama/program: models run by libllama.
#include "llama/program/open_language_model.hpp"

#include <ggml-backend.h>
#include <llama.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "decoder.hpp"
#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/io/usage_error.hpp"
#include "rpc.hpp"

namespace llama {

namespace {

constexpr Index cells_granule = 256;  // to which libllama rounds up

ggml_type type_of(CacheType type) {
    switch (type) {
        case CacheType::f32:
            return GGML_TYPE_F32;
        case CacheType::f16:
            return GGML_TYPE_F16;
        case CacheType::bf16:
            return GGML_TYPE_BF16;
        case CacheType::q8:
            return GGML_TYPE_Q8_0;
        case CacheType::q4:
            return GGML_TYPE_Q4_0;
        case CacheType::q2:
            break;
    }
    throw UsageError("--cache-type q2: libllama has f32, f16, bf16, q8 (Q8_0) and q4 (Q4_0)");
}

struct FreeModel {
    void operator()(llama_model* model) const { llama_model_free(model); }
};

class LlamaCppModel final : public LanguageModel {
public:
    LlamaCppModel(const Checkpoint& checkpoint, const CacheSettings& settings, const ModelOptions& options)
        : config_(checkpoint.config), settings_(settings) {
        llama_log_set(
            [](ggml_log_level level, const char* text, void*) {
                if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
            },
            nullptr);
        llama_model_params model_params = llama_model_default_params();
        model_params.progress_callback = [](float, void*) { return true; };  // without dots on standard error
        model_params.n_gpu_layers = options.device == "cuda" || has_rpc_workers() ? -1 : 0;
        model_.reset(llama_model_load_from_file(checkpoint.path.c_str(), model_params));
        if (!model_) throw std::runtime_error(checkpoint.path + ": libllama does not load it");
        llama_context_params params = llama_context_default_params();
        params.n_ctx =
            static_cast<std::uint32_t>((settings.sizes.capacity + cells_granule - 1) / cells_granule * cells_granule);
        params.n_batch = static_cast<std::uint32_t>(std::min<Index>(options.prefill_chunk, params.n_ctx));
        params.n_threads = params.n_threads_batch = options.threads > 0 ? options.threads : all_threads();
        params.type_k = params.type_v = type_of(settings.type);
        params.no_perf = true;
        decoder_ = make_decoder(model_.get(), params, settings);
    }

    const Config& config() const override { return config_; }
    CacheCounts cache(Index /*layer*/) const override {
        const llama_memory_t memory = llama_get_memory(decoder_->context());
        return {llama_memory_seq_pos_max(memory, 0) + Index{1}, llama_n_ctx_seq(decoder_->context()),
                decoder_->compressions()};
    }
    bool cache_grows() const override { return settings_.grows(); }
    Index cache_bytes() const override { return decoder_->cache_bytes(); }
    void clear() override { decoder_->clear(); }
    std::unique_ptr<TextState> save() const override { return decoder_->save(); }
    void restore(const TextState& saved) override {
        if (!decoder_->restore(saved)) throw std::runtime_error("libllama does not take back its own state");
    }
    void forward(std::span<const Token> tokens) override {
        std::vector<llama_token> ids(tokens.begin(), tokens.end());
        std::vector<std::int8_t> wanted(ids.size(), 1);  // whoever feeds them may ask for any
        llama_batch batch{};
        batch.n_tokens = static_cast<std::int32_t>(ids.size());
        batch.token = ids.data();
        batch.logits = wanted.data();
        const auto vocabulary = static_cast<std::size_t>(config_.vocabulary);
        logits_.resize(ids.size() * vocabulary);
        const std::int32_t failed = decoder_->decode(batch, [&](std::int32_t first, std::int32_t count) {
            for (std::int32_t i = 0; i < count; ++i) {
                const float* const row = llama_get_logits_ith(decoder_->context(), i);
                std::copy_n(row, vocabulary, logits_.data() + static_cast<std::size_t>(first + i) * vocabulary);
            }
        });
        if (failed == 1) throw std::runtime_error("the text does not fit into a full cache of this size");
        if (failed != 0) throw std::runtime_error("llama_decode gives " + std::to_string(failed));
    }
    std::span<const float> logits(Index first, Index count) override {
        const auto vocabulary = static_cast<std::size_t>(config_.vocabulary);
        return std::span(logits_).subspan(static_cast<std::size_t>(first) * vocabulary,
                                          static_cast<std::size_t>(count) * vocabulary);
    }
    std::span<const float> logits() override {
        return std::span(logits_).last(static_cast<std::size_t>(config_.vocabulary));
    }

private:
    static int all_threads() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

    Config config_;
    CacheSettings settings_;
    std::unique_ptr<llama_model, FreeModel> model_;
    std::unique_ptr<Decoder> decoder_;
    std::vector<float> logits_;  // of the latest forward(), [tokens, vocabulary]
};

}  // namespace

void check_device(const ModelOptions& options) {
    if (options.device == "cuda" && !llama_supports_gpu_offload()) {
        throw std::runtime_error("--device cuda: this libllama was built without a GPU");
    }
}

CacheSettings resolve(const ModelOptions& options, const Checkpoint& checkpoint, Index expected_tokens) {
    if (!is_gguf(checkpoint.path)) throw UsageError("--model " + checkpoint.path + ": libllama reads GGUF files");
    ModelOptions with_default = options;
    if (!options.cache_type) with_default.cache_type = CacheType::f16;
    CacheSettings settings = resolve(with_default, checkpoint.config, expected_tokens);
    if (settings.grows()) settings.sizes.capacity = std::max<Index>(expected_tokens, 1);
    if (!settings.sizes.head_capacities.empty()) throw UsageError("libllama has one capacity for all layers and heads");
    if (settings.sizes.text_positions) throw UsageError("--positions text: libllama's positions are those of entries");
    if (!settings.grows() && settings.sizes.capacity % cells_granule != 0) {
        throw UsageError("a capacity of " + std::to_string(settings.sizes.capacity) +
                         ": libllama's caches have multiples of 256 entries; --capacity " +
                         std::to_string(settings.sizes.capacity / cells_granule * cells_granule + cells_granule));
    }
    return settings;
}

std::unique_ptr<LanguageModel> open_language_model(const Checkpoint& checkpoint, const CacheSettings& settings,
                                                   const ModelOptions& options) {
    if (!options.adapter.empty()) throw UsageError("--adapter: libllama takes adapters in a format of its own only");
    return std::make_unique<LlamaCppModel>(checkpoint, settings, options);
}

}  // namespace llama
