// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>

namespace llama {

/// The command line was refused: exit status 2.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace llama
