// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>

#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/model/cache_settings.hpp"

namespace llama {

/// Returns f(policy) for the policy of that name. (On a GPU cuda/models.cuh does.) Throws std::invalid_argument for one
/// that is for training only, which training has to know by itself.
template <class F>
auto with_policy(PolicyName name, double ratio, F&& f) {
    switch (name) {
        case PolicyName::low_pass:
            return f(freqkv::LowPass<>(ratio));
        case PolicyName::local_window:
            return f(freqkv::LocalWindow(ratio));
        case PolicyName::full:
            return f(freqkv::Full{});
        case PolicyName::low_pass_unscaled:
            break;
    }
    throw std::invalid_argument(std::string("the policy ") + to_string(name) + " is for training only");
}

}  // namespace llama
