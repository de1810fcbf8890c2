// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "llama/program/check_threads.hpp"

// How main() puts its commands together. Each sets `run` if it is the one that was given.
namespace llama {

/// A command of `options` that looks first whether its threads can be made.
template <class Options>
std::function<int()> with_threads(std::shared_ptr<Options> options, int (*command)(const Options&)) {
    return [options = std::move(options), command] {
        check_threads(options->threads);
        return command(*options);
    };
}

/// Those that let a model read and write, whatever it runs on.
void add_model_commands(CLI::App& app, std::function<int()>& run);

/// Those that measure the reference Llama, its cache or a text.
void add_measuring_commands(CLI::App& app, std::function<int()>& run);

}  // namespace llama
