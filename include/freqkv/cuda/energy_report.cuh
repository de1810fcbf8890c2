// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/energy.hpp"
#include "freqkv/error.hpp"

namespace freqkv::cuda {

/// What a compression has discarded, head by head. It is measured in the frequency domain while the data are there
/// anyway: the squares of all coefficients, and of those that are dropped. Given to a call on request, and read when
/// one wants to know; may be given to the next call without being read. Belongs to one stream at a time.
class EnergyReport {
public:
    /// The energies of every head of every view of the latest call it was given to, in the order of that call. Waits
    /// for the stream. Sums in double and in an order of their own: the same from run to run.
    std::vector<Energy> read(cudaStream_t stream = nullptr) const {
        const std::vector<Energy> parts = parts_.download(stream);
        std::vector<Energy> energies;
        std::size_t part = 0;
        for (const Heads& heads : heads_) {
            for (Index h = 0; h < heads.count; ++h) {
                Energy sum;
                for (Index g = 0; g < heads.parts; ++g) sum += parts[part++];
                energies.push_back(sum);
            }
        }
        return energies;
    }

    /// For the library: forgets the views of the call before, adds one of `heads` heads whose energies come in `parts`
    /// parts each, and says where they begin once all have been added.
    void clear() {
        heads_.clear();
        size_ = 0;
    }
    Index add(Index heads, Index parts) {
        heads_.push_back({heads, parts});
        const Index begin = size_;
        size_ += checked_product("parts of an energy report", heads, parts);
        return begin;
    }
    /// Grows if it has to, which waits for the device and is not possible while a stream is captured.
    Energy* memory() {
        if (size_ > parts_.size()) parts_ = DeviceArray<Energy>(size_);
        return parts_.data();
    }

private:
    struct Heads {
        Index count, parts;
    };

    std::vector<Heads> heads_;
    Index size_ = 0;
    DeviceArray<Energy> parts_;
};

}  // namespace freqkv::cuda
