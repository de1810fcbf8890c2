// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <Eigen/Core>

#include "llama/model/random.hpp"
#include "llama/model/weights.hpp"
#include "llama/naive_row.hpp"

namespace llama::test {

inline std::vector<float> random_values(Index count, std::uint64_t seed) {
    Random random(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(2 * random.uniform() - 1);
    return values;
}

// A matrix in memory of its own: random numbers, or random blocks with scales that are no larger than 1 / 256.
class RandomWeights {
public:
    RandomWeights(WeightType type, Index rows, Index columns, std::uint64_t seed)
        : bytes_(static_cast<std::size_t>(rows * columns / format_of(type).block * format_of(type).bytes) + 1) {
        Random random(seed);
        for (std::byte& byte : bytes_) byte = static_cast<std::byte>(random.next() & 0xff);
        // Quantised blocks may lie anywhere.
        std::byte* const data = bytes_.data() + (format_of(type).block > 1 ? 1 : 0);
        weights_ = {data, type, rows, columns};
        const auto put = [&](Index i, auto value) {
            std::memcpy(data + i * Index{sizeof value}, &value, sizeof value);
        };
        const auto number = [&] { return static_cast<float>(2 * random.uniform() - 1); };
        const auto put_scale = [&](Index offset) {
            const Eigen::half scale(number() / 256);
            std::memcpy(data + offset, &scale, sizeof scale);
        };
        const Index blocks = rows * columns / format_of(type).block;
        const std::vector<std::size_t> halves = halves_of(type);
        for (Index i = 0; i < blocks; ++i) {
            const Index at = i * format_of(type).bytes;
            switch (type) {
                case WeightType::f32:
                    put(i, number());
                    break;
                case WeightType::f16:
                    put(i, Eigen::half(number()));
                    break;
                case WeightType::bf16:
                    put(i, Eigen::bfloat16(number()));
                    break;
                default:
                    for (const std::size_t half : halves) put_scale(at + static_cast<Index>(half));
            }
        }
    }

    Weights get() const { return weights_; }

private:
    std::vector<std::byte> bytes_;
    Weights weights_;
};

}  // namespace llama::test
