// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/device_array.cuh"

namespace freqkv::cuda {

/// Device memory in which packed entries are floats while they are compressed. Caches whose work is given to the same
/// stream may share one, as the layers of a model do.
class Workspace {
public:
    /// At least `floats` floats; what lay there before is lost. Throws CudaError if there is no memory, without change.
    float* reserve(Index floats) {
        if (floats > memory_.size()) memory_ = DeviceArray<float>(floats);
        return memory_.data();
    }

    Index bytes() const { return memory_.size() * static_cast<Index>(sizeof(float)); }

private:
    DeviceArray<float> memory_;
};

}  // namespace freqkv::cuda
