// SPDX-License-Identifier: MIT
#pragma once

namespace freqkv::test {

/// Whether a sanitizer watches the tests and the program: it takes several times the memory, and all of the address
/// space.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace freqkv::test
