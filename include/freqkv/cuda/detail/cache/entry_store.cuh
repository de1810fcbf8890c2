// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/cache_options.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda::detail {

/// Device memory for rows of all sequences of a cache, as its keys or its values: [sequences, kv_heads, capacity, dim].
template <class T>
class EntryStore {
public:
    /// `what` is for an error.
    EntryStore(const char* what, const CacheOptions& options, Index capacity, Index dim)
        : kv_heads_(options.kv_heads),
          capacity_(capacity),
          dim_(dim),
          entries_(checked_product(what, options.sequences, options.kv_heads, capacity, dim)) {}
    EntryStore(const char* what, const CacheOptions& options, Index dim)
        : EntryStore(what, options, options.capacity, dim) {}

    T* data() const { return entries_.data(); }
    Index bytes() const { return entries_.size() * element_bytes; }

    /// The first entries of a sequence, [kv_heads, count, dim].
    KVView<T> first(Index sequence, Index count) const {
        return {at(sequence), kv_heads_, count, dim_, capacity_ * dim_, dim_, 1};
    }
    /// All memory of a sequence.
    KVView<T> all(Index sequence) const { return first(sequence, capacity_); }

    /// Elements of a sequence's first entries.
    Index elements(Index count) const { return kv_heads_ * count * dim_; }

    /// Throws Error unless `rows` are `count` entries.
    void check_rows(const std::vector<T>& rows, Index count) const {
        const auto elements = static_cast<Index>(rows.size());
        require(elements == kv_heads_ * count * dim_, "elements of the saved sequence", elements,
                "must be kv_heads times size times dimensions");
    }

    /// The first entries of sequence `from` to another one.
    void copy(Index from, Index to, Index count, cudaStream_t stream) const {
        copy_rows(at(to), capacity_, at(from), capacity_, count, cudaMemcpyDeviceToDevice, stream);
    }

    /// The first entries, [kv_heads, count, dim], when the stream is done.
    std::vector<T> download(Index sequence, Index count, cudaStream_t stream) const {
        std::vector<T> entries(static_cast<std::size_t>(elements(count)));
        copy_rows(entries.data(), count, at(sequence), capacity_, count, cudaMemcpyDeviceToHost, stream);
        return entries;
    }

    /// The other way; the stream must be done before `entries` change.
    void upload(Index sequence, const std::vector<T>& entries, Index count, cudaStream_t stream) const {
        copy_rows(at(sequence), capacity_, entries.data(), count, count, cudaMemcpyHostToDevice, stream);
    }

private:
    static constexpr auto element_bytes = static_cast<Index>(sizeof(T));

    T* at(Index sequence) const { return entries_.data() + sequence * kv_heads_ * capacity_ * dim_; }

    // `count` entries of each KV head, whose heads are so many entries apart.
    void copy_rows(T* to, Index to_pitch, const T* from, Index from_pitch, Index count, cudaMemcpyKind kind,
                   cudaStream_t stream) const {
        if (count == 0) return;
        const auto bytes = [&](Index entries) { return static_cast<std::size_t>(entries * dim_ * element_bytes); };
        check("cudaMemcpy2DAsync", cudaMemcpy2DAsync(to, bytes(to_pitch), from, bytes(from_pitch), bytes(count),
                                                     static_cast<std::size_t>(kv_heads_), kind, stream));
    }

    Index kv_heads_, capacity_, dim_;
    DeviceArray<T> entries_;
};

}  // namespace freqkv::cuda::detail
