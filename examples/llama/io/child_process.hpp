// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace llama {

/// How a program ended, and what it said.
struct ChildResult {
    int status = 0;       ///< exit status, or 128 + the signal that ended it
    std::string message;  ///< the end of what it wrote to standard error
};

/// Runs a program that PATH finds, without standard input and output, to its end. `environment` is added to this
/// process's. `wait` is called ten times a second; when it is false the program is ended. Throws FileError with the
/// program's name if it cannot be started.
ChildResult run_child(const std::vector<std::string>& command,
                      const std::vector<std::pair<std::string, std::string>>& environment,
                      const std::function<bool()>& wait);

}  // namespace llama
