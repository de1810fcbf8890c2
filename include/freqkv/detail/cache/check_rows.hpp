// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

namespace freqkv::detail {

// require() of `what` of the keys or values, as `name` says.
inline void require_of(bool ok, const char* what, const char* name, Index value, const char* allowed) {
    if (!ok) refuse((std::string(what) + " of " + name).c_str(), std::to_string(value), allowed);
}

}  // namespace freqkv::detail
