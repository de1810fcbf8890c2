// SPDX-License-Identifier: MIT
#include "device_in_place.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/view.hpp"
#include "kernels.cuh"

using freqkv::Index;
using freqkv::KVView;
using freqkv::cuda::DeviceArray;

class DeviceInPlace::Compressor {
public:
    virtual ~Compressor() = default;
    virtual Index compress(void* memory, Index size, const View& keys, const View& values, const Options& options) = 0;
};

template <class T>
class DeviceInPlace::CompressorOf : public DeviceInPlace::Compressor {
public:
    CompressorOf(double ratio, std::optional<freqkv::cuda::Rope> rope)
        : compressor_(freqkv::LowPass<>(ratio), std::move(rope)) {}

    Index compress(void* memory, Index size, const View& keys, const View& values, const Options& options) override {
        // Elements before and behind, of a pattern that no float has by chance.
        constexpr Index margin = 64;
        constexpr int pattern = 0x5a;
        std::vector<T> image(static_cast<std::size_t>(margin + size + margin));
        std::memset(static_cast<void*>(image.data()), pattern, image.size() * sizeof(T));
        const std::vector<T> before = image;
        std::memcpy(static_cast<void*>(image.data() + margin), memory, static_cast<std::size_t>(size) * sizeof(T));

        const DeviceArray<T> device(image);
        const DeviceArray<Index> positions(options.positions);
        const auto view = [&](const View& v) {
            return KVView<T>(device.data() + margin + v.begin, v.heads, v.tokens, v.head_dim, v.head_stride,
                             v.token_stride, v.dim_stride);
        };
        const freqkv::cuda::ForeignList<KVView<T>> list{view(keys), view(values), positions.data(),
                                                        options.compressions};
        const auto results = compressor_.compress(std::span<const freqkv::cuda::ForeignList<KVView<T>>>(&list, 1),
                                                  {.sinks = options.sinks, .recent = options.recent});
        image = device.download();
        std::memcpy(memory, image.data() + margin, static_cast<std::size_t>(size) * sizeof(T));
        const auto same = [&](std::size_t first) {
            return std::memcmp(image.data() + first, before.data() + first, margin * sizeof(T)) == 0;
        };
        EXPECT_TRUE(same(0)) << "memory before the views was written";
        EXPECT_TRUE(same(static_cast<std::size_t>(margin + size))) << "memory behind the views was written";
        return results.front().length;
    }

private:
    freqkv::cuda::InPlaceCompressor<T> compressor_;
};

DeviceInPlace::DeviceInPlace(Element element, double ratio, const std::optional<freqkv::RopeOptions>& options) {
    std::optional<freqkv::cuda::Rope> rope;
    if (options) rope.emplace(*options);
    switch (element) {
        case Element::float32:
            compressor_ = std::make_shared<CompressorOf<float>>(ratio, std::move(rope));
            break;
        case Element::float16:
            compressor_ = std::make_shared<CompressorOf<__half>>(ratio, std::move(rope));
            break;
        case Element::bfloat16:
            compressor_ = std::make_shared<CompressorOf<__nv_bfloat16>>(ratio, std::move(rope));
            break;
    }
}

Index DeviceInPlace::compress(void* memory, Index size, const View& keys, const View& values, const Options& options) {
    return compressor_->compress(memory, size, keys, values, options);
}
