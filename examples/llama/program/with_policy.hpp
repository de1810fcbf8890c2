// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/program/options.hpp"

namespace llama {

/// Returns f(policy) for the policy that the settings name.
template <class F>
auto with_policy(const CacheSettings& settings, F&& f) {
    if (settings.policy == "full") return f(freqkv::Full{});
    if (settings.policy == "local-window") return f(freqkv::LocalWindow(settings.ratio));
    return f(freqkv::LowPass<>(settings.ratio));
}

}  // namespace llama
