// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/energy.hpp"

namespace freqkv::cuda {

namespace detail {
template <class T>
class ResampleLaunch;
}

/// What a compression has discarded, head by head. It is measured in the frequency domain while the data are there
/// anyway: the squares of all coefficients, and of those that are dropped. Given to a call on request, and read when
/// one wants to know; may be given to the next call without being read. Belongs to one stream at a time.
class EnergyReport {
public:
    /// Waits for the stream, which has to be that of the latest call it was given to. The energies of every head of
    /// every view of that call, in its order. Sums in double, in an order that depends on the batch.
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

private:
    template <class T>
    friend class detail::ResampleLaunch;

    // The heads of a view, and in how many parts the energies of each come.
    struct Heads {
        Index count = 0;
        Index parts = 0;
    };

    // Memory for the energies of a new call, `parts` in all. Grows if it has to, which is not possible while a stream
    // is captured; what has been outgrown is kept, for a graph may still write there.
    Energy* begin(std::vector<Heads> heads, Index parts) {
        if (parts > parts_.size()) {
            DeviceArray<Energy> larger(parts);
            outgrown_.push_back(std::move(parts_));
            parts_ = std::move(larger);
        }
        heads_ = std::move(heads);
        return parts_.data();
    }

    std::vector<Heads> heads_;
    DeviceArray<Energy> parts_;
    std::vector<DeviceArray<Energy>> outgrown_;
};

}  // namespace freqkv::cuda
