// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/dct_plan.cuh"
#include "freqkv/cuda/detail/device/check_memory.cuh"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/transform/launch_shape.hpp"
#include "freqkv/cuda/detail/transform/resample.hpp"
#include "freqkv/cuda/detail/transform/resample_launch.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda {

/// One compression of the paper (equations 6 to 8) on a device: n rows become `kept`,
///
///     Z = sqrt(kept / n) IDCT_kept(DCT_n(X)[0..kept)),
///
/// each column by itself. As freqkv::FrequencyCompressor; elements are float, __half or __nv_bfloat16, arithmetic is in
/// float. Everything between reading the n rows and writing the `kept` ones stays in shared memory. What is said of
/// DctPlan about streams, copies and lengths holds here too.
class FrequencyCompressor {
public:
    /// Throws Error unless 1 <= kept <= n <= 2^14, CudaError if there is no device or no memory.
    FrequencyCompressor(Index n, Index kept) : long_(n), short_(kept == n ? long_ : make_short(n, kept)) {}
    /// From plans that are there already.
    FrequencyCompressor(DctPlan long_plan, DctPlan short_plan)
        : long_(std::move(long_plan)), short_(std::move(short_plan)) {
        check_kept(long_.size(), short_.size());
    }

    /// Rows before.
    Index size() const { return long_.size(); }
    /// Rows after.
    Index kept() const { return short_.size(); }

    /// Every head of `in` [heads, n, dim] to `out` [heads, kept, dim], with any strides. In place where both begin at
    /// the same element with the same strides; otherwise they must not overlap. Throws Error for views that do not fit,
    /// CudaError if the launch fails; nothing is written then.
    template <class T>
    void forward(KVView<const std::type_identity_t<T>> in, KVView<T> out, cudaStream_t stream = nullptr) const;
    /// The same; `report` gets what each head loses.
    template <class T>
    void forward(KVView<const std::type_identity_t<T>> in, KVView<T> out, EnergyReport& report,
                 cudaStream_t stream = nullptr) const;

    /// The adjoint: every head of `in` [heads, kept, dim] to `out` [heads, n, dim]; otherwise as forward().
    template <class T>
    void adjoint(KVView<const std::type_identity_t<T>> in, KVView<T> out, cudaStream_t stream = nullptr) const;

    const DctPlan& long_plan() const { return long_; }
    const DctPlan& short_plan() const { return short_; }
    float scale() const {
        return static_cast<float>(std::sqrt(static_cast<double>(kept()) / static_cast<double>(size())));
    }

private:
    static void check_kept(Index n, Index kept) {
        if (kept < 1 || kept > n) {
            refuse("kept", std::to_string(kept), "must be 1 to n, which is " + std::to_string(n));
        }
    }
    static DctPlan make_short(Index n, Index kept) {
        check_kept(n, kept);
        return DctPlan(kept);
    }

    DctPlan long_;
    DctPlan short_;
};

/// One of the compressions of a batch.
template <class T>
struct Compression {
    const FrequencyCompressor* compressor = nullptr;
    KVView<const T> in;  ///< [heads, compressor->size(), dim]
    KVView<T> out;       ///< [heads, compressor->kept(), dim]
};

namespace detail {

// The tasks of one call: a launch for those that carry pairs of columns, and one for the others.
template <class T>
class ResampleLaunch {
    static_assert(check_element<T>());

public:
    ResampleLaunch() : limits_(device_limits()) {}

    void add(const ResampleTask<T>& task, const FrequencyCompressor& compressor) {
        const DctPlan& a = compressor.long_plan();
        const DctPlan& b = compressor.short_plan();
        check_device("plan", a.device());
        check_device("plan", b.device());
        const int slots = std::max(PlanAccess::slots(a), PlanAccess::slots(b));
        const int radix = std::max(PlanAccess::largest_radix(a), PlanAccess::largest_radix(b));
        Group& group = groups_[carries_pairs(slots, radix, task.columns(), limits_) ? 1 : 0];
        order_.push_back({&group == &groups_[1], group.tasks.size()});
        group.slots = std::max<Index>(group.slots, slots);
        group.columns = std::max(group.columns, task.columns());
        group.tasks.push_back(task);
    }

    // report: null if nobody wants it. wanted_columns: see launch_shape().
    void run(EnergyReport* report, int wanted_columns, cudaStream_t stream) {
        LaunchShape shapes[2];
        for (const bool pairs : {false, true}) {
            const Group& group = groups_[pairs ? 1 : 0];
            shapes[pairs ? 1 : 0] = launch_shape(group.slots, pairs, group.columns, limits_, wanted_columns);
        }
        if (report != nullptr) add_energies(*report, shapes);
        for (std::size_t i = 0; i < 2; ++i) launch_resample<T>(groups_[i].tasks, shapes[i], stream);
    }

private:
    struct Group {
        std::vector<ResampleTask<T>> tasks;
        Index slots = 1;
        int columns = 1;
    };
    struct Added {
        std::size_t group, task;
    };

    void add_energies(EnergyReport& report, const LaunchShape* shapes) {
        std::vector<EnergyReport::Heads> heads;
        std::vector<Index> begins;
        Index begin = 0;
        for (const Added& at : order_) {
            const ResampleTask<T>& task = groups_[at.group].tasks[at.task];
            heads.push_back({task.heads, column_groups(task.columns(), shapes[at.group].columns())});
            begins.push_back(begin);
            begin += heads.back().count * heads.back().parts;
        }
        Energy* const memory = report.begin(std::move(heads), begin);
        for (std::size_t i = 0; i < order_.size(); ++i) {
            groups_[order_[i].group].tasks[order_[i].task].energies = memory + begins[i];
        }
    }

    DeviceLimits limits_;
    Group groups_[2];
    std::vector<Added> order_;  // as they were added
};

template <class T>
ResampleTask<T> resample_task(const FrequencyCompressor& compressor, bool adjoint, const KVView<const T>& in,
                              const KVView<T>& out) {
    const DctPlan& from = adjoint ? compressor.short_plan() : compressor.long_plan();
    const DctPlan& to = adjoint ? compressor.long_plan() : compressor.short_plan();
    require(in.tokens == from.size(), "in.tokens", in.tokens, "must be the number of rows the compressor reads");
    require(out.tokens == to.size(), "out.tokens", out.tokens, "must be the number of rows the compressor writes");
    require(out.heads == in.heads, "out.heads", out.heads, "must equal in.heads");
    require(out.head_dim == in.head_dim, "out.head_dim", out.head_dim, "must equal in.head_dim");
    const Columns columns{static_cast<int>(in.head_dim), 0, false};
    ResampleTask<T> task;
    task.in = rows_of(in, columns);
    task.out = rows_of(out, columns);
    task.forward = PlanAccess::device_view(from);
    task.inverse = PlanAccess::device_view(to);
    task.heads = static_cast<int>(in.heads);
    task.kept = static_cast<int>(compressor.kept());
    task.scale = compressor.scale();
    return task;
}

/// compress() with at most `columns_per_block` complex columns to a block, a power of two, for measurements; 0 chooses.
/// `report`: null if nobody wants it.
template <class T>
void compress_batch(std::span<const Compression<T>> batch, EnergyReport* report, int columns_per_block,
                    cudaStream_t stream) {
    ResampleLaunch<T> launch;
    std::vector<Extent> extents;
    for (const Compression<T>& c : batch) {
        require(c.compressor != nullptr, "compressor", 0, "must not be null");
        Extent in = checked_device_extent("in", c.in);
        Extent out = checked_device_extent("out", c.out);
        check_in_and_out(in, out, same_place(c.in, c.out));
        in.task = out.task = static_cast<Index>(extents.size());
        in.is_written = false;
        extents.push_back(in);
        extents.push_back(out);
        launch.add(resample_task<T>(*c.compressor, false, c.in, c.out), *c.compressor);
    }
    check_apart(std::move(extents));
    launch.run(report, columns_per_block, stream);
}

}  // namespace detail

/// All compressions of a batch, of any lengths, in one launch, or two where some lengths have a prime above 16; a
/// launch holds the parameters of some 130 compressions from CUDA 12.1 on, else of 15. Results do not depend on what
/// else is in the batch. Outputs must be apart from each other and from the inputs of others. Otherwise as
/// FrequencyCompressor::forward().
template <class T>
void compress(std::span<const Compression<T>> batch, cudaStream_t stream = nullptr) {
    detail::compress_batch(batch, nullptr, 0, stream);
}
/// The same; `report` gets what each head loses.
template <class T>
void compress(std::span<const Compression<T>> batch, EnergyReport& report, cudaStream_t stream = nullptr) {
    detail::compress_batch(batch, &report, 0, stream);
}

template <class T>
void FrequencyCompressor::forward(KVView<const std::type_identity_t<T>> in, KVView<T> out, cudaStream_t stream) const {
    const Compression<T> one{this, in, out};
    compress<T>(std::span<const Compression<T>>(&one, 1), stream);
}

template <class T>
void FrequencyCompressor::forward(KVView<const std::type_identity_t<T>> in, KVView<T> out, EnergyReport& report,
                                  cudaStream_t stream) const {
    const Compression<T> one{this, in, out};
    compress<T>(std::span<const Compression<T>>(&one, 1), report, stream);
}

template <class T>
void FrequencyCompressor::adjoint(KVView<const std::type_identity_t<T>> in, KVView<T> out, cudaStream_t stream) const {
    detail::check_in_and_out(detail::checked_device_extent("in", in), detail::checked_device_extent("out", out),
                             detail::same_place<T>(in, out));
    detail::ResampleLaunch<T> launch;
    launch.add(detail::resample_task<T>(*this, true, in, out), *this);
    launch.run(nullptr, 0, stream);
}

}  // namespace freqkv::cuda
