// SPDX-License-Identifier: MIT
#include "decoder.hpp"

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "freqkv/policy/block_mean.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv_llama.hpp"
#include "llama/io/usage_error.hpp"

namespace llama {

namespace {

template <class P>
class BoundedDecoder final : public Decoder {
public:
    BoundedDecoder(llama_model* model, const llama_context_params& params, const CacheSettings& settings)
        : bounded_(model, params, P(settings.ratio), {settings.sizes.sinks, settings.sizes.recent}) {}

    llama_context* context() const override { return bounded_.get(); }
    Index cache_bytes() const override { return bounded_.cache_bytes(); }
    Index compressions() const override { return bounded_.compressions(); }
    void clear() override { bounded_.clear(); }
    std::unique_ptr<TextState> save() const override {
        auto saved = std::make_unique<Saved>();
        saved->state = bounded_.save();
        return saved;
    }
    bool restore(const TextState& saved) override { return bounded_.restore(dynamic_cast<const Saved&>(saved).state); }
    std::int32_t decode(const llama_batch& batch,
                        const std::function<void(std::int32_t, std::int32_t)>& decoded) override {
        return bounded_.decode(batch, decoded);
    }

private:
    using Bounded = freqkv::llama::BoundedContext<P>;
    struct Saved final : TextState {
        typename Bounded::State state;
    };

    Bounded bounded_;
};

// What the library is compared with.
class PlainDecoder final : public Decoder {
public:
    PlainDecoder(llama_model* model, const llama_context_params& params)
        : context_(llama_init_from_model(model, params)) {
        if (!context_) throw std::runtime_error("libllama makes no context of this model and these parameters");
    }

    llama_context* context() const override { return context_.get(); }
    Index cache_bytes() const override { return 0; }
    Index compressions() const override { return 0; }
    void clear() override { llama_memory_seq_rm(llama_get_memory(context()), 0, -1, -1); }
    std::unique_ptr<TextState> save() const override {
        auto saved = std::make_unique<Saved>();
        saved->bytes.resize(llama_state_seq_get_size(context(), 0));
        llama_state_seq_get_data(context(), saved->bytes.data(), saved->bytes.size(), 0);
        return saved;
    }
    bool restore(const TextState& saved) override {
        clear();
        const auto& bytes = dynamic_cast<const Saved&>(saved).bytes;
        return llama_state_seq_set_data(context(), bytes.data(), bytes.size(), 0) != 0;
    }
    std::int32_t decode(const llama_batch& batch,
                        const std::function<void(std::int32_t, std::int32_t)>& decoded) override {
        const std::int32_t failed = llama_decode(context(), batch);
        if (failed == 0 && decoded) decoded(0, batch.n_tokens);
        return failed;
    }

private:
    struct Saved final : TextState {
        std::vector<std::uint8_t> bytes;
    };
    struct Free {
        void operator()(llama_context* context) const { llama_free(context); }
    };
    std::unique_ptr<llama_context, Free> context_;
};

}  // namespace

std::unique_ptr<Decoder> make_decoder(llama_model* model, const llama_context_params& params,
                                      const CacheSettings& settings) {
    const auto make = [&]<class P>(std::type_identity<P>) -> std::unique_ptr<Decoder> {
        return std::make_unique<BoundedDecoder<P>>(model, params, settings);
    };
    switch (settings.policy) {
        case PolicyName::low_pass:
            return make(std::type_identity<freqkv::LowPass<>>{});
        case PolicyName::local_window:
            return make(std::type_identity<freqkv::LocalWindow>{});
        case PolicyName::key_diff:
            return make(std::type_identity<freqkv::KeyDiff>{});
        case PolicyName::key_norm:
            return make(std::type_identity<freqkv::KeyNorm>{});
        case PolicyName::value_norm:
            return make(std::type_identity<freqkv::ValueNorm>{});
        case PolicyName::block_mean:
            return make(std::type_identity<freqkv::BlockMean>{});
        case PolicyName::full:
            return std::make_unique<PlainDecoder>(model, params);
        default:
            break;
    }
    throw UsageError(
        std::string("--policy ") + to_string(settings.policy) +
        " is not among those that this program was built with: low-pass, local-window, key-diff, key-norm, "
        "value-norm, mean and full");
}

}  // namespace llama
