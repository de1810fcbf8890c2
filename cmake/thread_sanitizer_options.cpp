// SPDX-License-Identifier: MIT
// Linked into every executable that is built with the thread sanitizer.

// Libraries that are not instrumented, such as the OpenMP runtime, synchronise in ways that the sanitizer
// does not see; what they do inside is not ours to report.
extern "C" const char* __tsan_default_options();  // NOLINT: the sanitizer gives the name
extern "C" const char* __tsan_default_options() { return "ignore_noninstrumented_modules=1"; }  // NOLINT
