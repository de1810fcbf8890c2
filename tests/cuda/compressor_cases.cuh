// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "device_tests.cuh"
#include "freqkv/cuda/frequency_compressor.cuh"
#include "naive.hpp"

namespace freqkv::cuda::compressor_test {

// Of what happens in float between reading and writing, relative to the largest element.
inline constexpr double tolerance = 2e-6;

using Bits = std::vector<std::uint32_t>;

// Lengths as (n, kept) of each kind: a power of two, other factors, one of 31, for which threads carry one column
// instead of two, and convolutions; halved and not.
inline constexpr std::array<std::pair<Index, Index>, 6> typical_lengths{
    {{64, 32}, {60, 30}, {60, 45}, {62, 31}, {37, 18}, {41, 40}}};

template <class T>
class DeviceCompressor : public testing::Test {
protected:
    static naive::Rows low_passed(const Entries<T>& x, Index head, Index kept) {
        return naive::low_passed(x.rows(head), static_cast<std::size_t>(kept));
    }

    // The bits that a call of its own gives.
    static Bits forward(const FrequencyCompressor& compressor, const Tensor<T>& in) {
        Tensor<T> out(in.heads(), compressor.kept(), in.dim());
        compressor.forward(in.view(), out.view());
        out.download();
        return out.bits();
    }
};

}  // namespace freqkv::cuda::compressor_test
