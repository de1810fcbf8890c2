// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include "freqkv/freqkv.hpp"
#include "model_cache.hpp"

namespace freqkv::test {

template <class T, class P>
struct PolicyCase {
    using Stored = T;

    static CacheOptions options(const testing_model::Text& text) {
        CacheOptions options = testing_model::cache_options(text, 80, 3, 20);
        options.exact = 4;  // with a block that is packed, less than the capacity
        return options;
    }
    static auto cache(const testing_model::Text& text) {
        return testing_model::make_cache<T>(text, options(text), P());
    }
};

// Every policy that bounds a cache, in floats and in bits.
using EveryPolicyCases =
    ::testing::Types<PolicyCase<float, LowPass<>>, PolicyCase<float, LocalWindow>, PolicyCase<float, SnapKV<>>,
                     PolicyCase<float, Tova>, PolicyCase<float, HeavyHitters>, PolicyCase<float, KeyDiff>,
                     PolicyCase<float, KeyNorm>, PolicyCase<float, ValueNorm>, PolicyCase<float, BlockMean>,
                     PolicyCase<float, Merge>, PolicyCase<float, TieredLowPass<>>,
                     PolicyCase<float, EqualWeightLowPass<>>, PolicyCase<float, ExactAndLowPass<WindowAttention<16>>>,
                     PolicyCase<float, ExactAndLowPass<AccumulatedAttention>>,
                     PolicyCase<float, ExactAndLowPass<ResidualEnergy>>, PolicyCase<Packed<8>, LowPass<>>,
                     PolicyCase<Packed<8>, LocalWindow>, PolicyCase<Packed<4>, LowPass<>>,
                     PolicyCase<Packed<4>, LocalWindow>, PolicyCase<Packed<4>, SnapKV<>>, PolicyCase<Packed<4>, Merge>,
                     PolicyCase<Packed<4>, HeavyHitters>, PolicyCase<Packed<4>, ExactAndLowPass<ResidualEnergy>>,
                     PolicyCase<Packed<2>, LowPass<>>, PolicyCase<Packed<2>, HeavyHitters>>;
}  // namespace freqkv::test
