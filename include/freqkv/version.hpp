// SPDX-License-Identifier: MIT
#pragma once

// The one place where the version stands; CMakeLists.txt reads it from here.
#define FREQKV_VERSION_MAJOR 0
#define FREQKV_VERSION_MINOR 1
#define FREQKV_VERSION_PATCH 0

namespace freqkv {

struct Version {
    int major, minor, patch;
};

inline constexpr Version version{FREQKV_VERSION_MAJOR, FREQKV_VERSION_MINOR, FREQKV_VERSION_PATCH};

}  // namespace freqkv
