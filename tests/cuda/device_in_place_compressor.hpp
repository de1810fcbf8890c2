// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/device_in_place.hpp"
#include "freqkv/config.hpp"
#include "freqkv/in_place.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/rope_options.hpp"
#include "freqkv/view.hpp"

/// How keys are rotated, made as freqkv::Rope is.
struct DeviceRope {
    explicit DeviceRope(freqkv::RopeOptions options_, freqkv::Index /*table_positions*/ = 0)
        : options(std::move(options_)) {}

    freqkv::RopeOptions options;
};

/// The device's in-place call with the interface of freqkv::InPlaceCompressor, for the host's tests of it. Keys and
/// values are views into one array.
template <class T, class P = freqkv::LowPass<>>
class DeviceInPlaceCompressor {
    static_assert(std::is_same_v<P, freqkv::LowPass<>>, "a device keeps low frequencies");

public:
    explicit DeviceInPlaceCompressor(const P& policy = P{}, const std::optional<DeviceRope>& rope = std::nullopt)
        : device_(element(), policy.schedule.ratio, rope ? std::optional(rope->options) : std::nullopt) {}

    freqkv::Index compress(const freqkv::KVView<T>& keys, const freqkv::KVView<T>& values,
                           const freqkv::InPlaceOptions& options = {}) {
        const Stretch of_keys = stretch(keys);
        const Stretch of_values = stretch(values);
        T* const begin = std::min(of_keys.begin, of_values.begin);
        T* const end = std::max(of_keys.end, of_values.end);
        const freqkv::Index size = device_.compress(begin, end - begin, view(keys, begin), view(values, begin),
                                                    {options.sinks,
                                                     options.recent,
                                                     options.compressions,
                                                     {options.positions.begin(), options.positions.end()}});
        sizes_.assign(static_cast<std::size_t>(keys.heads), size);
        return size;
    }

    /// The entries that each head has after the latest call.
    std::span<const freqkv::Index> sizes() const { return sizes_; }

private:
    struct Stretch {
        T* begin;
        T* end;
    };

    static constexpr DeviceInPlace::Element element() {
        if (std::is_same_v<T, Eigen::half>) return DeviceInPlace::Element::float16;
        if (std::is_same_v<T, Eigen::bfloat16>) return DeviceInPlace::Element::bfloat16;
        static_assert(std::is_same_v<T, float> || sizeof(T) == 2);
        return DeviceInPlace::Element::float32;
    }

    static Stretch stretch(const freqkv::KVView<T>& view) {
        const freqkv::Index steps[] = {(view.heads - 1) * view.head_stride, (view.tokens - 1) * view.token_stride,
                                       (view.head_dim - 1) * view.dim_stride};
        Stretch result{view.data, view.data + 1};
        for (const freqkv::Index step : steps) (step < 0 ? result.begin : result.end) += step;
        return result;
    }

    static DeviceInPlace::View view(const freqkv::KVView<T>& x, const T* begin) {
        return {x.data - begin, x.heads, x.tokens, x.head_dim, x.head_stride, x.token_stride, x.dim_stride};
    }

    DeviceInPlace device_;
    std::vector<freqkv::Index> sizes_;
};
