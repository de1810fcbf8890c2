// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "freqkv/adjoint/chunked_attention.hpp"
#include "llama/training/layer_attention.hpp"

namespace llama {

/// LayerAttention under policy P.
template <class P>
class PolicyAttention final : public LayerAttention {
public:
    PolicyAttention(const freqkv::CacheOptions& options, const freqkv::Rope<float>& rope, const P& policy, double scale,
                    freqkv::Workspace& workspace)
        : attention_(options, rope, policy, {.scale = scale}, &workspace) {}

    void forward(const View& q, const View& k, const View& v, const View& out) override {
        attention_.forward(q, k, v, out);
    }
    void backward(const View& q, const View& k, const View& v, const View& out, const View& d_out, const View& d_q,
                  const View& d_k, const View& d_v) override {
        attention_.backward(q, k, v, out, d_out, d_q, d_k, d_v);
    }
    Index bytes() const override { return attention_.bytes(); }

private:
    freqkv::DifferentiableAttention<float, P> attention_;
};

template <class P>
MakeAttention attention_under(const P& policy) {
    return [policy](const freqkv::CacheOptions& options, const freqkv::Rope<float>& rope, double scale,
                    freqkv::Workspace& workspace) -> std::unique_ptr<LayerAttention> {
        return std::make_unique<PolicyAttention<P>>(options, rope, policy, scale, workspace);
    };
}

}  // namespace llama
