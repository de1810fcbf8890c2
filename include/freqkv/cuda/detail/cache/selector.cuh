// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/choose_entries.hpp"
#include "freqkv/cuda/detail/cache/entry_scores.hpp"
#include "freqkv/cuda/detail/cache/policies.hpp"
#include "freqkv/cuda/detail/cache/select_kernels.cuh"
#include "freqkv/cuda/detail/cache/select_task.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/cuda/detail/device/row_map.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/error.hpp"

namespace freqkv::cuda::detail {

/// Chooses entries of spans by one of the host's scores, all spans of a batch in the same few launches. Holds the
/// memory for scores and choices on the device: 4 bytes for each entry of a span and head and 4 for each that is kept,
/// for a codec that transforms the others 4 more for each of these and 8 for each row of the result, and what the score
/// needs. In the order of a stream: what has been chosen stays until the next batch is launched there.
template <class T, class Codec>
class Selector {
    using Score = typename ScoreOf<Codec>::type;
    using OnDevice = decltype(device_score(std::declval<const Score&>()));
    static_assert(DeviceScore<OnDevice, T>);

public:
    explicit Selector(const Codec& codec) : score_(device_score(score_of(codec))) {}

    /// Forgets the spans of the batch before.
    void begin() { tasks_.clear(); }

    /// Adds a span of a list, of which choice.exact entries are chosen; the memory is found by place().
    void add(SelectTask<T> task) {
        require(Index{task.choice.heads} * score_stretches(task.entries) < Index{1} << 31, "kv_heads",
                task.choice.heads, "must be fewer for lists of that many entries");
        task.head_floats = score_.floats(task);
        tasks_.push_back(task);
    }

    /// Finds memory for all spans: what there is, where it is enough. Throws Error or CudaError if there is none.
    void place() {
        Index floats = 0;
        Index numbers = 0;
        for (const SelectTask<T>& task : tasks_) {
            floats += checked_product("scores", task.choice.heads, task.head_floats + task.choice.length);
            numbers += checked_product("chosen entries", task.choice.heads, task.choice.head_numbers());
        }
        grow(floats_, floats, outgrown_floats_);
        grow(numbers_, numbers, outgrown_numbers_);
        float* next_floats = floats_.data();
        std::int32_t* next_numbers = numbers_.data();
        for (SelectTask<T>& task : tasks_) {
            Choice& choice = task.choice;
            choice.scores = std::exchange(next_floats, next_floats + Index{choice.heads} * choice.length);
            task.floats = std::exchange(next_floats, next_floats + choice.heads * task.head_floats);
            choice.numbers = std::exchange(next_numbers, next_numbers + choice.heads * choice.head_numbers());
        }
    }

    /// Of the span that was added as number i, counted from its begin, when the stream has done what launch() gives it:
    /// what remains (Choice::items()); and the entries that are transformed, with where the rows of the result stand
    /// and which of the items they are behind them, as ResampleTask reads them.
    RowMap items(Index i) const { return map(i, choice(i).items()); }
    RowMap others(Index i) const { return map(i, choice(i).others()); }

    void launch(cudaStream_t stream) const {
        launch_passes<0>(stream);
        std::vector<Choice> choices;
        for (const SelectTask<T>& task : tasks_) choices.push_back(task.choice);
        launch_each<Choice>(
            choices, [](const Choice& choice) { return choice.heads; },
            [&](const Batch<Choice>& batch, dim3 grid) {
                launch_kernel("cudaLaunchKernel of choose_kernel", &choose_kernel<choose_threads>, grid, choose_threads,
                              0, stream, batch);
            });
    }

    /// Loads the kernels.
    static void load() {
        load_passes<0>();
        load_kernel(&choose_kernel<choose_threads>);
    }

    /// Bytes held on the device.
    Index bytes() const { return (floats_.size() + numbers_.size()) * static_cast<Index>(sizeof(float)); }

private:
    const Choice& choice(Index i) const { return tasks_[static_cast<std::size_t>(i)].choice; }
    RowMap map(Index i, const std::int32_t* of_first_head) const { return {of_first_head, choice(i).head_numbers()}; }

    // What has been outgrown is kept, for a graph may still use it.
    template <class Element>
    static void grow(DeviceArray<Element>& array, Index size, std::vector<DeviceArray<Element>>& outgrown) {
        if (size <= array.size()) return;
        DeviceArray<Element> larger(size);
        if (array.size() > 0) outgrown.push_back(std::move(array));
        array = std::move(larger);
    }

    // launch(batch, grid) for as many tasks at a time as kernels take; the grid is (the most blocks(task), tasks).
    template <class Task, class Blocks, class Launch>
    static void launch_each(std::span<const Task> tasks, const Blocks& blocks, const Launch& launch) {
        const auto batch = std::make_unique<Batch<Task>>();
        while (!tasks.empty()) {
            const std::size_t count = std::min<std::size_t>(tasks.size(), Batch<Task>::most_tasks);
            dim3 grid(1, static_cast<unsigned int>(count));
            for (std::size_t i = 0; i < count; ++i) {
                batch->tasks[i] = tasks[i];
                grid.x = std::max(grid.x, static_cast<unsigned int>(blocks(tasks[i])));
            }
            launch(*batch, grid);
            tasks = tasks.subspan(count);
        }
    }

    template <int Pass>
    void launch_passes(cudaStream_t stream) const {
        launch_each<SelectTask<T>>(
            tasks_, [](const SelectTask<T>& task) { return task.choice.heads * score_stretches(task.entries); },
            [&](const Batch<SelectTask<T>>& batch, dim3 grid) {
                launch_kernel("cudaLaunchKernel of score_kernel", &score_kernel<Pass, OnDevice, T>, grid, score_threads,
                              0, stream, batch, score_);
            });
        if constexpr (Pass + 1 < OnDevice::passes) launch_passes<Pass + 1>(stream);
    }

    template <int Pass>
    static void load_passes() {
        load_kernel(&score_kernel<Pass, OnDevice, T>);
        if constexpr (Pass + 1 < OnDevice::passes) load_passes<Pass + 1>();
    }

    OnDevice score_;
    std::vector<SelectTask<T>> tasks_;
    DeviceArray<float> floats_;
    DeviceArray<std::int32_t> numbers_;
    std::vector<DeviceArray<float>> outgrown_floats_;
    std::vector<DeviceArray<std::int32_t>> outgrown_numbers_;
};

/// Of a codec that goes by no score.
struct NoSelector {
    template <class Codec>
    explicit NoSelector(const Codec& /*codec*/) {}
};

}  // namespace freqkv::cuda::detail
