// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "llama/model/sampler.hpp"
#include "llama/program/options.hpp"
#include "llama/program/training_options.hpp"

// For the sources of main(): CLI11 takes long to compile.
namespace llama {

/// Accepts a number of type Value (Index, int, double, std::uint64_t) from `least` to `most`, both included, and says
/// so otherwise.
template <class Value>
CLI::Validator number(Value least, Value most);

/// Puts the path in the place of a model's name; see resolve_model_path().
CLI::Validator model_path();

/// For the commands that take any model and have no cache.
CLI::Option* add_model_option(CLI::App& command, std::string& model);

void add_threads_option(CLI::App& command, int& threads);

void add_model_options(CLI::App& command, ModelOptions& options);

/// For the commands that need no uniform budget; after add_model_options().
void add_budget_options(CLI::App& command, ModelOptions& options);

/// How entries are shared among heads.
void add_sharing_options(CLI::App& command, CalibrateBy& by, std::optional<double>& shared);

/// For the commands that read the weights.
void add_adapter_option(CLI::App& command, ModelOptions& options);

/// For the commands that run on a GPU as well; after add_model_options().
void add_device_option(CLI::App& command, ModelOptions& options);

void add_sampler_options(CLI::App& command, SamplerOptions& sampler);

void add_training_options(CLI::App& command, TrainingOptions& options);

}  // namespace llama
