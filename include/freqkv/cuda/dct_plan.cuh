// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/check_memory.cuh"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/transform/resample_launch.cuh"
#include "freqkv/cuda/detail/transform/transform_tables.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda {

namespace detail {
struct PlanAccess;
}

/// The transform of one length on the device that is current when the plan is made: the DCT-II and its inverse, the
/// DCT-III, orthonormal, as at the head of freqkv/dct_plan.hpp. Elements are float, __half or __nv_bfloat16, arithmetic
/// is in float. O(n log n) for any n up to 2^14 that the device's shared memory has room for (docs/cuda.md).
///
/// Const after construction and cheap to copy: copies share the tables, 20 to 60 bytes for each row. Work is given to a
/// stream and has not been done when a call returns; plans must live until it is done.
class DctPlan {
public:
    /// Waits until the tables are on the device, so make plans before a stream is captured. Throws Error unless n is 1
    /// to 2^14 and the device has the shared memory for it, CudaError if there is no device or no memory.
    explicit DctPlan(Index n) : state_(std::make_shared<const State>(n)) {}

    /// n, the number of rows.
    Index size() const { return state_->view.length; }

    /// Rows [0, out.rows) of the DCT-II of the n rows of `in`, column by column. In place where both begin at the same
    /// element with the same strides; otherwise they must not overlap. Throws Error for views that do not fit,
    /// CudaError if the launch fails; nothing is written then.
    template <class T>
    void forward(MatrixView<const std::type_identity_t<T>> in, MatrixView<T> out, cudaStream_t stream = nullptr) const {
        require(in.rows == size(), "in.rows", in.rows, "must be the plan's size");
        require(1 <= out.rows && out.rows <= size(), "out.rows", out.rows, "must be 1 to the plan's size");
        run<T>(in, out, out.rows, true, stream);
    }

    /// The n rows of the DCT-III of in.rows coefficients, the others being 0; otherwise as forward().
    template <class T>
    void inverse(MatrixView<const std::type_identity_t<T>> in, MatrixView<T> out, cudaStream_t stream = nullptr) const {
        require(1 <= in.rows && in.rows <= size(), "in.rows", in.rows, "must be 1 to the plan's size");
        require(out.rows == size(), "out.rows", out.rows, "must be the plan's size");
        run<T>(in, out, in.rows, false, stream);
    }

    /// Bytes of the tables on the device, shared by all copies.
    Index table_bytes() const {
        const State& s = *state_;
        const Index factors = s.twiddles.size() + s.quarter_turns.size() + s.chirp.size() + s.chirp_spectrum.size();
        return factors * static_cast<Index>(sizeof(detail::Factor)) +
               s.rows.size() * static_cast<Index>(sizeof(std::int32_t)) +
               static_cast<Index>(sizeof(detail::TransformView));
    }

    /// The device whose memory has the tables.
    int device() const { return state_->device; }

private:
    friend struct detail::PlanAccess;

    struct State {
        explicit State(Index n) : State(detail::TransformTables(n)) {}
        explicit State(const detail::TransformTables& tables)
            : device(checked_device(tables)),
              twiddles(tables.twiddles),
              quarter_turns(tables.quarter_turns),
              chirp(tables.chirp),
              chirp_spectrum(tables.chirp_spectrum),
              rows(tables.rows),
              slots(tables.slots()),
              largest_radix(tables.largest_radix()),
              view(tables.view()) {
            view.fft.twiddles = twiddles.data();
            view.quarter_turns = quarter_turns.data();
            view.chirp = chirp.data();
            view.chirp_spectrum = chirp_spectrum.data();
            view.rows = rows.data();
            device_view = DeviceArray<detail::TransformView>(std::span<const detail::TransformView>(&view, 1));
        }

        // Before anything is allocated.
        static int checked_device(const detail::TransformTables& tables) {
            if (!detail::launch::fits(tables.slots(), 1, 1, detail::device_limits())) {
                refuse("n", std::to_string(tables.length()),
                       "too large for the device's shared memory: " + std::to_string(tables.slots()) +
                           " points of 8.5 bytes");
            }
            return detail::current_device();
        }

        int device;
        DeviceArray<detail::Factor> twiddles, quarter_turns, chirp, chirp_spectrum;
        DeviceArray<std::int32_t> rows;
        int slots;
        int largest_radix;
        detail::TransformView view;
        DeviceArray<detail::TransformView> device_view;
    };

    template <class T>
    void run(const MatrixView<const T>& in, const MatrixView<T>& out, Index kept, bool forward,
             cudaStream_t stream) const {
        detail::check_device("plan", device());
        require(in.columns == out.columns, "out.columns", out.columns, "must equal in.columns");
        const KVView<const T> from(in.data, 1, in.rows, in.columns, 0, in.row_stride, in.column_stride);
        const KVView<T> to(out.data, 1, out.rows, out.columns, 0, out.row_stride, out.column_stride);
        detail::check_in_and_out(detail::checked_device_extent("in", from), detail::checked_device_extent("out", to),
                                 detail::same_place(from, to));
        const detail::Columns columns{static_cast<int>(in.columns), 0, false};
        detail::ResampleTask<T> task;
        task.in = detail::rows_of(from, columns);
        task.out = detail::rows_of(to, columns);
        (forward ? task.forward : task.inverse) = state_->device_view.data();
        task.heads = 1;
        task.kept = static_cast<int>(kept);
        const detail::DeviceLimits limits = detail::device_limits();
        const bool pairs = detail::carries_pairs(state_->slots, state_->largest_radix, columns.count(), limits);
        const auto shape = detail::launch_shape(state_->slots, pairs, columns.count(), limits);
        detail::launch_resample<T>(std::span<const detail::ResampleTask<T>>(&task, 1), shape, stream);
    }

    std::shared_ptr<const State> state_;
};

namespace detail {

/// What kernels are launched with.
struct PlanAccess {
    /// The tables, on the device.
    static const TransformView* device_view(const DctPlan& plan) { return plan.state_->device_view.data(); }
    /// Points in shared memory for each column.
    static int slots(const DctPlan& plan) { return plan.state_->slots; }
    static int largest_radix(const DctPlan& plan) { return plan.state_->largest_radix; }
};

}  // namespace detail

}  // namespace freqkv::cuda
