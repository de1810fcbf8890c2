// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include <Eigen/Core>

#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/options.hpp"
#include "llama/program/with_policy.hpp"

namespace llama {

// The models of the program are compiled once, in model_<type>.cpp.
extern template class Llama<float, freqkv::LowPass<>, ThreadExecutor>;
extern template class Llama<float, freqkv::LocalWindow, ThreadExecutor>;
extern template class Llama<float, freqkv::Full, ThreadExecutor>;
extern template class Llama<Eigen::half, freqkv::LowPass<>, ThreadExecutor>;
extern template class Llama<Eigen::half, freqkv::LocalWindow, ThreadExecutor>;
extern template class Llama<Eigen::half, freqkv::Full, ThreadExecutor>;
extern template class Llama<Eigen::bfloat16, freqkv::LowPass<>, ThreadExecutor>;
extern template class Llama<Eigen::bfloat16, freqkv::LocalWindow, ThreadExecutor>;
extern template class Llama<Eigen::bfloat16, freqkv::Full, ThreadExecutor>;

/// Builds the model that the settings ask for and returns f(model). Here, once, the command line becomes
/// types; nothing behind it looks at the settings again.
template <class F>
auto with_model(const Checkpoint& checkpoint, const CacheSettings& settings, int threads, F&& f) {
    check_capacity(checkpoint.config, settings);
    const auto with_type = [&]<class T, class P>(std::type_identity<T>, const P& policy) {
        Llama<T, P, ThreadExecutor> model(checkpoint, settings.sizes, policy, make_executor(threads));
        return f(model);
    };
    return with_policy(settings, [&](const auto& policy) {
        if (settings.type == "f16") return with_type(std::type_identity<Eigen::half>{}, policy);
        if (settings.type == "bf16") return with_type(std::type_identity<Eigen::bfloat16>{}, policy);
        return with_type(std::type_identity<float>{}, policy);
    });
}

}  // namespace llama
