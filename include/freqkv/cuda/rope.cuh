// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/rope_options.hpp"

namespace freqkv::cuda {

/// How a cache's keys are rotated, for the device that is current when it is made. Angles are computed where they are
/// needed, from frequencies in turns with 64 bits behind the point, so that their accuracy does not depend on the
/// position; within 3e-7 of the cosine and sine of freqkv::Rope. Cheap to copy.
class Rope {
public:
    /// Throws Error for an option outside its range, CudaError if there is no device or no memory.
    explicit Rope(const RopeOptions& options)
        : head_dim_(options.head_dim),
          pairing_(options.pairing),
          device_(detail::current_device()),
          frequencies_(std::make_shared<const DeviceArray<std::uint64_t>>(
              detail::rope_frequencies_in_turns(rope_frequencies(options)))) {}

    Index head_dim() const { return head_dim_; }
    Index pairs() const { return frequencies_->size(); }
    RopePairing pairing() const { return pairing_; }
    /// The device whose memory has the frequencies.
    int device() const { return device_; }
    /// [pairs], on the device; null if there are none.
    const std::uint64_t* frequencies() const { return frequencies_->data(); }

private:
    Index head_dim_;
    RopePairing pairing_;
    int device_;
    std::shared_ptr<const DeviceArray<std::uint64_t>> frequencies_;
};

}  // namespace freqkv::cuda
