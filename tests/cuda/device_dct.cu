// SPDX-License-Identifier: MIT
#include "device_dct.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "device_limits.cuh"
#include "freqkv/config.hpp"
#include "freqkv/cuda/dct_plan.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/view.hpp"
#include "kernels.cuh"

using freqkv::Index;
using freqkv::MatrixView;
using freqkv::cuda::DeviceArray;

struct DeviceDct::Plan {
    freqkv::cuda::DctPlan dct;
};

namespace {

DeviceArray<float> upload(const float* values, Index size) {
    return DeviceArray<float>(std::span<const float>(values, static_cast<std::size_t>(size)));
}

void download(const DeviceArray<float>& from, float* to) {
    const std::vector<float> values = from.download();
    std::copy(values.begin(), values.end(), to);
}

}  // namespace

DeviceDct::DeviceDct(Index n) : plan_(std::make_shared<const Plan>(Plan{freqkv::cuda::DctPlan(n)})) {}

Index DeviceDct::size() const { return plan_->dct.size(); }

void DeviceDct::forward(const float* x, Index columns, Index coefficients, float* y) const {
    const DeviceArray<float> in = upload(x, size() * columns);
    const DeviceArray<float> out(coefficients * columns);
    plan_->dct.forward(MatrixView<const float>(in.data(), size(), columns),
                       MatrixView<float>(out.data(), coefficients, columns));
    download(out, y);
}

void DeviceDct::inverse(const float* y, Index columns, Index coefficients, float* x) const {
    const DeviceArray<float> in = upload(y, coefficients * columns);
    const DeviceArray<float> out(size() * columns);
    plan_->dct.inverse(MatrixView<const float>(in.data(), coefficients, columns),
                       MatrixView<float>(out.data(), size(), columns));
    download(out, x);
}

bool DeviceDct::fits(Index n) { return freqkv::cuda::fits_device(n); }
