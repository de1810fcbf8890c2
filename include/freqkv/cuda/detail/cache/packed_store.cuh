// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/cache_options.hpp"
#include "freqkv/cuda/detail/cache/entry_store.cuh"
#include "freqkv/cuda/detail/device/packed_group.hpp"
#include "freqkv/cuda/detail/device/packed_memory.hpp"
#include "freqkv/cuda/status.cuh"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda::detail {

/// Which entries of a packed cache are exact.
inline ExactParts exact_parts(const CacheOptions& options) {
    return {std::min(options.sinks, options.capacity), options.exact};
}

/// Of a list, whose parts follow each other.
struct PartSizes {
    Index first = 0, packed = 0, latest = 0;
};
inline PartSizes part_sizes(const ExactParts& exact, const freqkv::detail::ListCounts& counts) {
    const Index first = std::min(counts.size, exact.first);
    return {first, counts.packed, counts.size - first - counts.packed};
}

/// Device memory for the keys, or the values, of all sequences of a packed cache.
template <int Bits>
class PackedStore {
    using Counts = freqkv::detail::ListCounts;
    using Rows = PackedRows<Bits>;
    using Group = PackedGroup<Bits>;

public:
    /// `what` is for an error.
    PackedStore(const char* what, const CacheOptions& options, Index dim)
        : exact_(exact_parts(options)),
          kv_heads_(options.kv_heads),
          dim_(dim),
          groups_(row_length<Packed<Bits>>(dim)),
          packed_rows_(exact_.packed_of(options.capacity)),
          latest_rows_(exact_.most_latest(options.capacity)),
          first_(what, options, exact_.first, dim),
          codes_(what, options, packed_rows_, groups_ * Group::bytes),
          scales_(what, options, packed_rows_, groups_),
          latest_(what, options, latest_rows_, dim) {}

    Index bytes() const { return first_.bytes() + codes_.bytes() + scales_.bytes() + latest_.bytes(); }

    PackedMemory<Bits> memory() const {
        return {first_.data(),
                codes_.data(),
                scales_.data(),
                latest_.data(),
                static_cast<int>(exact_.first),
                static_cast<int>(packed_rows_),
                static_cast<int>(latest_rows_),
                static_cast<int>(dim_)};
    }

    /// The latest exact entries of a sequence, [kv_heads, count, dim], from the oldest of them on.
    KVView<Half> latest(Index sequence, Index count) const { return latest_.first(sequence, count); }

    /// The entries of sequence `from` to another one.
    void copy(Index from, Index to, const Counts& counts, cudaStream_t stream) const {
        const PartSizes sizes = part_sizes(exact_, counts);
        first_.copy(from, to, sizes.first, stream);
        codes_.copy(from, to, sizes.packed, stream);
        scales_.copy(from, to, sizes.packed, stream);
        latest_.copy(from, to, sizes.latest, stream);
    }

    /// Waits for the stream. The entries as the host packs them.
    Rows download(Index sequence, const Counts& counts, cudaStream_t stream) const {
        const PartSizes sizes = part_sizes(exact_, counts);
        Rows rows;
        rows.first = first_.download(sequence, sizes.first, stream);
        rows.latest = latest_.download(sequence, sizes.latest, stream);
        const std::vector<std::uint8_t> codes = codes_.download(sequence, sizes.packed, stream);
        const std::vector<Half> scales = scales_.download(sequence, sizes.packed, stream);
        check("cudaStreamSynchronize", cudaStreamSynchronize(stream));
        rows.packed.resize(scales.size());
        for (std::size_t g = 0; g < scales.size(); ++g) {
            rows.packed[g].scale = scales[g];
            std::copy_n(codes.data() + g * Group::bytes, Group::bytes, rows.packed[g].codes.data());
        }
        return rows;
    }

    /// Throws Error unless rows are those of `counts`.
    void check_rows(const Rows& rows, const Counts& counts) const {
        const PartSizes sizes = part_sizes(exact_, counts);
        require(sizes.packed >= 0 && sizes.packed <= exact_.packed_of(counts.size) &&
                    sizes.packed % ExactParts::block == 0 && sizes.latest <= latest_rows_,
                "packed entries of the saved sequence", sizes.packed, "must fit its size and the exact ones");
        first_.check_rows(rows.first, sizes.first);
        latest_.check_rows(rows.latest, sizes.latest);
        const auto elements = static_cast<Index>(rows.packed.size());
        require(elements == kv_heads_ * sizes.packed * groups_, "packed groups of the saved sequence", elements,
                "must be kv_heads times packed entries times groups of a row");
    }

    /// Waits for the stream. The other way.
    void upload(Index sequence, const Rows& rows, const Counts& counts, cudaStream_t stream) const {
        const PartSizes sizes = part_sizes(exact_, counts);
        std::vector<std::uint8_t> codes(rows.packed.size() * Group::bytes);
        std::vector<Half> scales(rows.packed.size());
        for (std::size_t g = 0; g < scales.size(); ++g) {
            scales[g] = rows.packed[g].scale;
            std::copy_n(rows.packed[g].codes.data(), Group::bytes, codes.data() + g * Group::bytes);
        }
        first_.upload(sequence, rows.first, sizes.first, stream);
        codes_.upload(sequence, codes, sizes.packed, stream);
        scales_.upload(sequence, scales, sizes.packed, stream);
        latest_.upload(sequence, rows.latest, sizes.latest, stream);
        check("cudaStreamSynchronize", cudaStreamSynchronize(stream));
    }

private:
    ExactParts exact_;
    Index kv_heads_, dim_, groups_, packed_rows_, latest_rows_;
    EntryStore<Half> first_;          // [exact.first, dim]
    EntryStore<std::uint8_t> codes_;  // [packed_of(capacity), groups * PackedGroup::bytes]
    EntryStore<Half> scales_;         // [packed_of(capacity), groups]
    EntryStore<Half> latest_;         // [most_latest(capacity), dim]
};

}  // namespace freqkv::cuda::detail
