// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <type_traits>

/// Marks what also runs on a device when a CUDA compiler reads it; empty otherwise.
#if defined(__CUDACC__)
#define FREQKV_HOST_DEVICE __host__ __device__
#else
#define FREQKV_HOST_DEVICE
#endif

/// The vector registers and instructions that this file is compiled for. What depends on them is in an inline namespace
/// of this name, so that files of a program may be compiled for different processors: each has its own instances of the
/// templates, of one width, and none gets another's instructions.
#define FREQKV_ISA_NAME(registers, fused, words, halves) isa_##registers##fused##words##halves
#define FREQKV_ISA_OF(registers, fused, words, halves) FREQKV_ISA_NAME(registers, fused, words, halves)
#if defined(__AVX512F__)
#define FREQKV_ISA_REGISTERS 512
#elif defined(__AVX__)
#define FREQKV_ISA_REGISTERS 256
#else
#define FREQKV_ISA_REGISTERS 128
#endif
#if defined(__AVX2__) && defined(__FMA__)
#define FREQKV_ISA_FUSED _fused
#else
#define FREQKV_ISA_FUSED
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define FREQKV_ISA_WORDS _words
#else
#define FREQKV_ISA_WORDS
#endif
#if defined(__F16C__)
#define FREQKV_ISA_HALVES _halves
#else
#define FREQKV_ISA_HALVES
#endif
#define FREQKV_ISA FREQKV_ISA_OF(FREQKV_ISA_REGISTERS, FREQKV_ISA_FUSED, FREQKV_ISA_WORDS, FREQKV_ISA_HALVES)

namespace freqkv {

/// Every size, stride, count and position. Signed, so that differences are safe; 64-bit, so that a
/// cache of many heads and a long context cannot overflow an offset.
using Index = std::int64_t;

/// The type that a stored T is converted to for computing: double for double, float for everything else
/// (float itself and the 16-bit types).
template <class T>
using Arithmetic = std::conditional_t<std::is_same_v<std::remove_cv_t<T>, double>, double, float>;

}  // namespace freqkv
