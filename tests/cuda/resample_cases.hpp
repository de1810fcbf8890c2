// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/transform/resample.hpp"
#include "freqkv/cuda/detail/transform/transform_tables.hpp"
#include "freqkv/rope_options.hpp"
#include "naive.hpp"

namespace freqkv::cuda::resample_test {

// The columns of a launch on the host: pairs says whether calls carry two columns.
struct Launch {
    CallOrder order = CallOrder::shuffled;
    bool pairs = false;
    int log_packs = 1;
};

template <class V, class T>
void run_blocks(const detail::ResampleTask<T>& task, int slots, const Launch& launch, std::vector<Energy>* energies) {
    const int packs = detail::columns_of<V> << launch.log_packs;
    const int groups = detail::column_groups(task.columns(), packs);
    for (int b = 0; b < groups * task.heads; ++b) {
        const detail::BlockWork work = detail::work_of_block(b, task.columns(), packs);
        const SerialBlock block(launch.order);
        const CheckedMemory<V> memory(slots, detail::layout_of(task, launch.log_packs), block);
        Energy energy;
        const detail::Resample<V, T, SerialBlock, CheckedMemory<V>> resample(
            task, work.head, work.group << launch.log_packs, block, memory);
        resample.run(energies == nullptr ? nullptr : &energy);
        if (energies != nullptr) (*energies)[static_cast<std::size_t>(work.head)] += energy;
    }
}

template <class T>
void run(const detail::ResampleTask<T>& task, int slots, const Launch& launch,
         std::vector<Energy>* energies = nullptr) {
    if (launch.pairs) {
        run_blocks<detail::FloatPair>(task, slots, launch, energies);
    } else {
        run_blocks<float>(task, slots, launch, energies);
    }
}

// What compresses n rows to `kept`, and back.
class Transforms {
public:
    Transforms(Index n, Index kept)
        : long_(n),
          short_(kept),
          long_view_(long_.view()),
          short_view_(short_.view()),
          scale_(static_cast<float>(std::sqrt(static_cast<double>(kept) / static_cast<double>(n)))) {}

    template <class T>
    void set(detail::ResampleTask<T>& task, bool adjoint = false) const {
        task.forward = adjoint ? &short_view_ : &long_view_;
        task.inverse = adjoint ? &long_view_ : &short_view_;
        task.kept = short_.length();
        task.scale = scale_;
    }

    int slots() const { return std::max(long_.slots(), short_.slots()); }
    bool can_pair() const {
        return std::max(long_.largest_radix(), short_.largest_radix()) <= detail::widest_pair_radix;
    }

private:
    detail::TransformTables long_, short_;
    detail::TransformView long_view_, short_view_;
    float scale_;
};

inline std::vector<float> random_values(Index count, std::uint64_t seed) {
    naive::Random next(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(next());
    return values;
}

template <class T>
naive::Rows rows_of(const std::vector<T>& values, Index first, Index count, Index dims) {
    naive::Rows rows;
    for (Index r = first; r < first + count; ++r) {
        naive::Row row;
        for (Index d = 0; d < dims; ++d)
            row.push_back(static_cast<double>(values[static_cast<std::size_t>(r * dims + d)]));
        rows.push_back(row);
    }
    return rows;
}

template <class T>
void expect_rows(const std::vector<T>& values, const naive::Rows& want, Index dims, double tolerance) {
    const naive::Rows have = rows_of(values, 0, static_cast<Index>(want.size()), dims);
    for (std::size_t r = 0; r < want.size(); ++r) {
        for (std::size_t d = 0; d < want[r].size(); ++d) {
            ASSERT_NEAR(have[r][d], want[r][d], tolerance) << "row " << r << ", dimension " << d;
        }
    }
}

// A dense matrix [rows, dims] as a view of one head.
template <class T>
KVView<T> one_head(std::vector<std::remove_const_t<T>>& values, Index rows, Index dims) {
    return KVView<T>(values.data(), 1, rows, dims);
}

inline detail::ResampleTask<float> dense_task(std::vector<float>& in, Index in_rows, std::vector<float>& out,
                                              Index out_rows, Index dims) {
    const detail::Columns columns{static_cast<int>(dims), 0, false};
    detail::ResampleTask<float> task;
    task.in = detail::rows_of(KVView<const float>(one_head<float>(in, in_rows, dims)), columns);
    task.out = detail::rows_of(one_head<float>(out, out_rows, dims), columns);
    task.heads = 1;
    return task;
}

// Of values within 1; single precision gives 1e-6 for the longest length.
inline constexpr double tolerance = 2e-6;

struct RopeCase {
    RopePairing pairing;
    Index dims;
    Index rotated_dims;
};

inline const std::vector<RopeCase> rope_cases{
    {RopePairing::adjacent, 8, 8},   {RopePairing::adjacent, 8, 6},   {RopePairing::adjacent, 7, 4},
    {RopePairing::half_split, 8, 8}, {RopePairing::half_split, 8, 4}, {RopePairing::half_split, 12, 6},
    {RopePairing::half_split, 9, 6}, {RopePairing::half_split, 8, 0},
};

}  // namespace freqkv::cuda::resample_test
