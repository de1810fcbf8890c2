// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "freqkv/error.hpp"

namespace freqkv::test {

/// The message of the Error that a call throws; "accepted" if it throws none.
template <class F>
std::string message_of(const F& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "accepted";
}

}  // namespace freqkv::test
