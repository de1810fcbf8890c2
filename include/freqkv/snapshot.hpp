// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/snapshot/head.hpp"
#include "freqkv/detail/snapshot/settings.hpp"
#include "freqkv/detail/snapshot/streams.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/report.hpp"
#include "freqkv/sinked_kv_cache.hpp"

// Caches as bytes, to go on with later, in another process or on another machine. Needs xxhash.h (libxxhash-dev), and
// no library to link. A snapshot is, in little-endian order:
//
//     "FREQKV" and its version, u16; the number of caches, u64
//     for each cache:
//         its settings, text of a line each, behind their length, u64
//         for each head:
//             ListCounts, 6 x i64; the number of spans of its latest compression, i64, and each, 3 x i64
//             keys, values, token ranges, attention sums, weights, as they lie in memory
//         the queries that its policy reads
//         XXH3 of all since the one before, u64
namespace freqkv {

/// Of the format. Others are refused.
inline constexpr std::uint16_t snapshot_version = 1;

}  // namespace freqkv

namespace freqkv::detail::inline FREQKV_ISA {

inline constexpr std::array<char, 6> snapshot_magic{'F', 'R', 'E', 'Q', 'K', 'V'};

// What was read of a cache's snapshot and found good.
struct CheckedSnapshot {
    std::vector<SnapshotHead> heads;
    const std::byte* queries = nullptr;
};

// What a cache lets snapshots see.
struct SnapshotAccess {
    template <class T, class P, class Sink>
    static void save(const SinkedKVCache<T, P>& cache, SnapshotWriter<Sink>& to) {
        const std::string settings = snapshot_settings(cache);
        to.write(static_cast<std::uint64_t>(settings.size()));
        to.write(settings.data(), static_cast<Index>(settings.size()));
        const auto write = [&](const auto* data, Index count) { to.write(data, count); };
        for (const auto& list : cache.lists_) {
            SnapshotHead{list.counts, list.compressed}.write(to);
            list.for_each_part(list.counts, write);
        }
        cache.queries_.for_each_part(cache.tokens_seen(), write);
        to.end_section();
    }

    template <class T, class P>
    static CheckedSnapshot check(const SinkedKVCache<T, P>& cache, SnapshotReader& from) {
        const auto length = static_cast<Index>(std::min<std::uint64_t>(from.take_number<std::uint64_t>(), 1U << 30U));
        const auto* const text = reinterpret_cast<const char*>(from.take(length));
        require_settings({text, static_cast<std::size_t>(length)}, snapshot_settings(cache));
        CheckedSnapshot checked;
        for (const auto& list : cache.lists_) {
            // An entry of a growing cache takes more than a byte.
            SnapshotHead head = SnapshotHead::read(from, GrowingPolicy<P> ? from.left() : list.capacity());
            const Index tokens = head.counts.tokens_seen;
            require(checked.heads.empty() || tokens == checked.heads.front().counts.tokens_seen,
                    "tokens of the snapshot", tokens, "must be the same for all heads");
            list.check_counts(head.counts, GrowingPolicy<P>);
            head.entries = from.take(0);
            list.for_each_part(head.counts, CheckPart{from, tokens});
            checked.heads.push_back(head);
        }
        checked.queries = from.take(0);
        const Index tokens = checked.heads.front().counts.tokens_seen;
        cache.queries_.for_each_part(tokens, CheckPart{from, tokens});
        from.end_section();
        return checked;
    }

    // Nobody sees that there is more room.
    template <class T, class P>
    static void reserve(SinkedKVCache<T, P>& cache, const CheckedSnapshot& checked) {
        if constexpr (GrowingPolicy<P>) {
            for (std::size_t h = 0; h < checked.heads.size(); ++h) {
                auto& list = cache.lists_[h];
                list.grow(std::max<Index>(0, list.needed_for(checked.heads[h].counts) - list.counts.size));
            }
        }
    }

    template <class T, class P>
    static void commit(SinkedKVCache<T, P>& cache, const CheckedSnapshot& checked) noexcept {
        for (std::size_t h = 0; h < checked.heads.size(); ++h) {
            auto& list = cache.lists_[h];
            list.counts = checked.heads[h].counts;
            list.compressed = checked.heads[h].compressed;
            list.for_each_part(list.counts, CopyPart{checked.heads[h].entries});
            list.find_log_weights();
        }
        cache.queries_.for_each_part(cache.tokens_seen(), CopyPart{checked.queries});
    }

private:
    struct CheckPart {
        SnapshotReader& from;
        Index tokens;

        void operator()(const TokenRange* /*to*/, Index count) const {
            for (Index i = 0; i < count; ++i) {
                const auto range = from.take_number<TokenRange>();
                require_between(range.begin, 0, tokens, "first token of an entry of the snapshot");
                require_between(range.end, range.begin, tokens, "last token of an entry of the snapshot");
            }
        }
        template <class T>
        void operator()(const T* /*to*/, Index count) const {
            from.take(checked_product("bytes of the snapshot", count, sizeof(T)));
        }
    };

    struct CopyPart {
        mutable const std::byte* from;

        template <class T>
        void operator()(T* to, Index count) const {
            const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
            if (bytes > 0) std::memcpy(to, from, bytes);
            from += bytes;
        }
    };
};

template <class X>
inline constexpr bool is_cache = false;
template <class T, class P>
inline constexpr bool is_cache<SinkedKVCache<T, P>> = true;

// One cache, or a range of them.
template <class Caches>
auto as_range(Caches& caches) {
    if constexpr (is_cache<std::remove_cv_t<Caches>>) {
        return std::span<Caches, 1>(&caches, 1);
    } else {
        return std::views::all(caches);
    }
}

}  // namespace freqkv::detail::inline FREQKV_ISA

namespace freqkv::inline FREQKV_ISA {

/// Writes one cache, or a range of them (the layers of a model), as bytes: sink(const std::byte* data, std::size_t
/// size) is called for each piece, in order. Entries are handed on from where they lie, and stay as they are. Throws
/// what the sink throws. Parts of a policy of one's own need a describe() (policy/describe.hpp).
template <class Caches, class Sink>
void save_snapshot(const Caches& caches, Sink&& sink) {
    const auto range = detail::as_range(caches);
    detail::SnapshotWriter<std::remove_reference_t<Sink>> to(sink);
    to.write(detail::snapshot_magic.data(), static_cast<Index>(detail::snapshot_magic.size()));
    to.write(snapshot_version);
    to.write(static_cast<std::uint64_t>(std::ranges::distance(range)));
    for (const auto& cache : range) detail::SnapshotAccess::save(cache, to);
}

/// Puts caches into the state of a snapshot that was made of as many with the same policy, types, shapes and rotation:
/// what they do from now on is, bit for bit, what those would have done. Reads `snapshot` (a file in memory, say)
/// twice. Throws Error, without change, for a snapshot of others, of another version, or that is damaged;
/// std::bad_alloc likewise. Attention sums and weights are not looked into: whoever can write a checksum can write NaN.
template <class Caches>
void load_snapshot(Caches& caches, std::span<const std::byte> snapshot) {
    const auto range = detail::as_range(caches);
    detail::SnapshotReader from(snapshot);
    if (from.take_number<std::array<char, 6>>() != detail::snapshot_magic) {
        refuse("beginning of the snapshot", "another", "must be \"FREQKV\"");
    }
    const auto version = from.take_number<std::uint16_t>();
    require(version == snapshot_version, "version of the snapshot", version, "must be 1 for this version of freqkv");
    const auto count = from.take_number<std::uint64_t>();
    require(count == static_cast<std::uint64_t>(std::ranges::distance(range)), "number of caches of the snapshot",
            count, "must be that of the caches to load");
    std::vector<detail::CheckedSnapshot> checked;
    for (auto& cache : range) checked.push_back(detail::SnapshotAccess::check(cache, from));
    require(from.left() == 0, "bytes behind the snapshot", from.left(), "must not be there");
    auto next = checked.begin();
    for (auto& cache : range) detail::SnapshotAccess::reserve(cache, *next++);
    next = checked.begin();
    for (auto& cache : range) detail::SnapshotAccess::commit(cache, *next++);
}

}  // namespace freqkv::inline FREQKV_ISA
