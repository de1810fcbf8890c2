// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "freqkv/config.hpp"

/// freqkv::cuda::DctPlan over host memory, for tests that nvcc does not compile: copies to the device and back. Rows
/// are dense, [n, columns] or [coefficients, columns]. Copies share the plan; it may be used from several threads at
/// once.
class DeviceDct {
public:
    explicit DeviceDct(freqkv::Index n);

    freqkv::Index size() const;
    /// `x` to the first coefficients of its DCT-II.
    void forward(const float* x, freqkv::Index columns, freqkv::Index coefficients, float* y) const;
    /// The first coefficients `y` to the rows of its DCT-III.
    void inverse(const float* y, freqkv::Index columns, freqkv::Index coefficients, float* x) const;

    /// Whether the device has the shared memory for this length.
    static bool fits(freqkv::Index n);

private:
    struct Plan;
    std::shared_ptr<const Plan> plan_;
};
