// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include "cuda/device_dct.hpp"
#include "freqkv/config.hpp"

/// The device's transform as a backend of the host's plans, so that the host's tests run on it: a block of rows goes to
/// the device and comes back. What the device reports ends the program with its message, since backends do not throw.
struct DeviceBackend {
    template <class C>
    class Plan;

    static bool takes(freqkv::Index n) { return DeviceDct::fits(n); }
};

template <>
class DeviceBackend::Plan<float> {
public:
    explicit Plan(freqkv::Index n) : dct_(n) {}

    static constexpr freqkv::Index block_columns = 20;
    freqkv::Index scratch_bytes() const { return 0; }

    template <class In, class Out>
    void forward(const In& in, freqkv::Index coefficients, const Out& out, std::byte* /*scratch*/,
                 float scale) const noexcept {
        const std::vector<float> x = load(in, dct_.size());
        std::vector<float> y(static_cast<std::size_t>(coefficients * in.columns()));
        dct_.forward(x.data(), in.columns(), coefficients, y.data());
        store(y, coefficients, scale, out);
    }

    template <class In, class Out>
    void inverse(const In& in, freqkv::Index coefficients, const Out& out, std::byte* /*scratch*/,
                 float scale) const noexcept {
        const std::vector<float> y = load(in, coefficients);
        std::vector<float> x(static_cast<std::size_t>(dct_.size() * in.columns()));
        dct_.inverse(y.data(), in.columns(), coefficients, x.data());
        store(x, dct_.size(), scale, out);
    }

private:
    template <class In>
    static std::vector<float> load(const In& in, freqkv::Index rows) {
        std::vector<float> values(static_cast<std::size_t>(rows * in.columns()));
        for (freqkv::Index r = 0; r < rows; ++r) in.load(r, values.data() + r * in.columns());
        return values;
    }

    template <class Out>
    static void store(std::vector<float>& values, freqkv::Index rows, float scale, const Out& out) {
        for (float& value : values) value *= scale;
        for (freqkv::Index r = 0; r < rows; ++r) out.store(r, values.data() + r * out.columns());
    }

    DeviceDct dct_;
};
