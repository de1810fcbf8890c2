// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

/// Losses by the position of their token in the sequence, in ranges that double: positions 1 to 63, 64 to 127,
/// 128 to 255, and so on.
class PositionBuckets {
public:
    struct Bucket {
        Index targets = 0;
        double loss = 0;  ///< sum, in nats

        double perplexity() const { return std::exp(loss / static_cast<double>(targets)); }
    };

    PositionBuckets() = default;
    explicit PositionBuckets(std::vector<Bucket> buckets) : buckets_(std::move(buckets)) {}

    void add(Index position, double loss) {
        const std::size_t bucket =
            position < width ? 0 : static_cast<std::size_t>(std::bit_width(std::uint64_t(position) / width));
        if (bucket >= buckets_.size()) buckets_.resize(bucket + 1);
        ++buckets_[bucket].targets;
        buckets_[bucket].loss += loss;
    }

    const std::vector<Bucket>& buckets() const { return buckets_; }

    /// First position of a bucket; its last one is before the first of the next.
    static Index first(std::size_t bucket) { return bucket == 0 ? 1 : width << (bucket - 1); }

private:
    static constexpr Index width = 64;

    std::vector<Bucket> buckets_;
};

}  // namespace llama
