// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace llama {

/// Adds commands to a program; the one that is given on its command line sets `run`.
using AddCommands = void (*)(CLI::App& app, std::function<int()>& run);

/// What a main() of commands does. Exit status 0, 1 for an error, 2 for a wrong command line, 128 + the signal's number
/// if SIGINT or SIGTERM ended it. Errors are one line on standard error.
int run_commands(const char* name, const char* what, int argc, char** argv, AddCommands add_commands);

}  // namespace llama
