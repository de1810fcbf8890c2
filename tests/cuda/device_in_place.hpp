// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/rope_options.hpp"

/// freqkv::cuda::InPlaceCompressor over host memory, for tests that nvcc does not compile: the stretch of memory that
/// the views reach over goes to the device and comes back, with a margin around it that nothing may touch.
class DeviceInPlace {
public:
    /// What an element is; its bits are those of the host's type of that name.
    enum class Element { float32, float16, bfloat16 };

    /// Keys or values in that memory, [heads, tokens, head_dim]: element 0 of each is at `begin`. In elements.
    struct View {
        freqkv::Index begin, heads, tokens, head_dim, head_stride, token_stride, dim_stride;
    };

    struct Options {
        freqkv::Index sinks, recent, compressions;
        std::vector<freqkv::Index> positions;  ///< as freqkv::InPlaceOptions
    };

    DeviceInPlace(Element element, double ratio, const std::optional<freqkv::RopeOptions>& rope);

    /// Compresses keys and values in memory[0, size). The entries that are left.
    freqkv::Index compress(void* memory, freqkv::Index size, const View& keys, const View& values,
                           const Options& options);

private:
    class Compressor;
    template <class T>
    class CompressorOf;
    std::shared_ptr<Compressor> compressor_;
};
