// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/cache_options.hpp"
#include "freqkv/cuda/detail/cache/cache_launch.cuh"
#include "freqkv/cuda/detail/cache/query_window.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"

namespace freqkv::cuda::detail {

inline constexpr int query_threads = 128;

/// Grid: x is a query head, y a task.
template <class U>
__global__ void __launch_bounds__(query_threads)
    append_queries_kernel(const __grid_constant__ Batch<QueryTask<U>, small_batch> batch) {
    const QueryTask<U>& task = batch.tasks[blockIdx.y];
    const auto head = static_cast<int>(blockIdx.x);
    if (head < task.heads) append_queries(task, head, DeviceBlock());
}

/// Device memory for the latest `window` queries of all sequences, [sequences, kv_heads, window, group, key_dim]
/// floats. A kernel finds a token's place from the entries of its sequence, by a shift that compressions alone change,
/// so that appending may be captured in a graph.
class QueryRing {
public:
    /// `window` may be 0: nothing is kept, and none of the other functions may be called.
    QueryRing(const CacheOptions& options, Index window)
        : window_(window),
          kv_heads_(options.kv_heads),
          group_(options.query_heads / options.kv_heads),
          dim_(options.key_dim),
          data_(checked_product("query window", options.sequences, sequence_size())) {
        require(window < Index{1} << 31, "query_window", window, "must be below 2^31");
        if (window > 0) {
            shifts_ =
                DeviceArray<std::int32_t>(std::vector<std::int32_t>(static_cast<std::size_t>(options.sequences), 0));
        }
    }

    Index bytes() const {
        return data_.size() * static_cast<Index>(sizeof(float)) +
               shifts_.size() * static_cast<Index>(sizeof(std::int32_t));
    }

    /// Elements of a sequence's window.
    Index sequence_size() const { return checked_product("query window", kv_heads_, window_, group_, dim_); }

    /// What a score reads when `tokens` tokens of the sequence have been seen.
    QueryWindow of(Index sequence, Index tokens, const Columns& columns, const std::uint64_t* frequencies) const {
        const Index here = std::min(tokens, window_);
        return {at(sequence),
                static_cast<int>(window_),
                static_cast<int>(group_),
                static_cast<int>(here),
                static_cast<int>((tokens - here) % window_),
                columns,
                frequencies};
    }

    /// Where the queries `from` of further tokens of a sequence go; the caller fills in the rest.
    template <class U>
    QueryTask<U> task(Index sequence, const EntryRows<const U>& from) const {
        QueryTask<U> task;
        task.from = from;
        task.to = at(sequence);
        task.heads = static_cast<int>(kv_heads_ * group_);
        task.group = static_cast<int>(group_);
        task.window = static_cast<int>(window_);
        task.shift = shifts_.data() + sequence;
        return task;
    }

    /// To be called when a sequence has `entries` entries after `tokens` tokens for another reason than appending.
    SizeChange shift_of(Index sequence, Index tokens, Index entries) const {
        return {static_cast<std::int32_t>(sequence), static_cast<std::int32_t>((tokens - entries) % window_), false};
    }
    void shift(std::span<const SizeChange> changes, cudaStream_t stream) const {
        change_sizes(changes, shifts_.data(), stream);
    }

    void copy(Index from, Index to, cudaStream_t stream) const {
        copy(at(to), at(from), cudaMemcpyDeviceToDevice, stream);
    }
    /// [kv_heads, window, group, key_dim], when the stream is done.
    std::vector<float> download(Index sequence, cudaStream_t stream) const {
        std::vector<float> queries(static_cast<std::size_t>(sequence_size()));
        copy(queries.data(), at(sequence), cudaMemcpyDeviceToHost, stream);
        return queries;
    }
    /// The stream must be done before `queries` change.
    void upload(Index sequence, const std::vector<float>& queries, cudaStream_t stream) const {
        copy(at(sequence), queries.data(), cudaMemcpyHostToDevice, stream);
    }

private:
    float* at(Index sequence) const { return data_.data() + sequence * sequence_size(); }

    void copy(float* to, const float* from, cudaMemcpyKind kind, cudaStream_t stream) const {
        const auto bytes = static_cast<std::size_t>(sequence_size()) * sizeof(float);
        check("cudaMemcpyAsync", cudaMemcpyAsync(to, from, bytes, kind, stream));
    }

    Index window_, kv_heads_, group_, dim_;
    DeviceArray<float> data_;
    DeviceArray<std::int32_t> shifts_;  // [sequences]
};

template <class U>
void launch_append_queries(std::span<const QueryTask<U>> tasks, cudaStream_t stream) {
    const auto batch = std::make_unique<Batch<QueryTask<U>, small_batch>>();
    while (!tasks.empty()) {
        const std::size_t count = std::min<std::size_t>(tasks.size(), batch->most_tasks);
        std::copy_n(tasks.begin(), count, batch->tasks);
        launch_kernel("cudaLaunchKernel of append_queries_kernel", &append_queries_kernel<U>,
                      dim3(static_cast<unsigned int>(tasks.front().heads), static_cast<unsigned int>(count)),
                      query_threads, 0, stream, *batch);
        tasks = tasks.subspan(count);
    }
}

}  // namespace freqkv::cuda::detail
