// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>

#include "freqkv/cache_options.hpp"
#include "freqkv/config.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace llama {

using freqkv::Index;

/// A layer's attention through its bounded cache, and back, whatever the policy: freqkv::DifferentiableAttention, a
/// whole text at a call.
class LayerAttention {
public:
    using View = freqkv::KVView<float>;

    LayerAttention() = default;
    LayerAttention(const LayerAttention&) = delete;
    LayerAttention& operator=(const LayerAttention&) = delete;
    virtual ~LayerAttention() = default;

    virtual void forward(const View& q, const View& k, const View& v, const View& out) = 0;
    virtual void backward(const View& q, const View& k, const View& v, const View& out, const View& d_out,
                          const View& d_q, const View& d_k, const View& d_v) = 0;
    virtual Index bytes() const = 0;
};

/// Makes that of a layer: (options, rope, factor of the scores, workspace that the layers share).
using MakeAttention = std::function<std::unique_ptr<LayerAttention>(
    const freqkv::CacheOptions&, const freqkv::Rope<float>&, double, freqkv::Workspace&)>;

}  // namespace llama
