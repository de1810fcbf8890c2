// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "freqkv/cache_options.hpp"
#include "freqkv/config.hpp"
#include "freqkv/detail/adjoint/compression_adjoint.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/view.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

/// What became of one KV head's list while a text was read: the entries that each compression left, and where they
/// came from. With the text's own keys and values that is all lists that any query saw. Memory is kept for the next
/// text.
template <class C>
class ListHistory {
public:
    /// Tokens from `token` on, which were appended to a list of `entries` that a compression had left (0: the first).
    struct Chunk {
        Index token = 0;
        Index entries = 0;
        std::size_t first_entry = 0;  // in the rows that are kept
        std::size_t first_span = 0;
        std::size_t spans = 0;
    };

    /// Forgets the text before.
    void begin_text() {
        chunks_.clear();
        keys_.clear();
        values_.clear();
        spans_.clear();
        sources_.clear();
        positions_.clear();
        log_weights_.clear();
        tokens_.clear();
        chunks_.push_back({});
    }

    /// Keeps the list of head h as a compression left it, by a selection or a transform, before token `token`.
    template <bool selection, class Cache>
    void add(const Cache& cache, Index h, Index token) {
        const Chunk before = chunks_.back();
        const SpanList& spans = cache.compressed_spans(h);
        chunks_.push_back({token, cache.size(h), keys_.size() / static_cast<std::size_t>(cache.key_dim()),
                           spans_.size(), static_cast<std::size_t>(spans.size())});
        const MatrixView<const C> keys = cache.keys(h);
        const MatrixView<const C> values = cache.values(h);
        keys_.insert(keys_.end(), keys.data, keys.data + keys.rows * keys.columns);
        values_.insert(values_.end(), values.data, values.data + values.rows * values.columns);
        spans_.insert(spans_.end(), spans.begin(), spans.end());
        if constexpr (selection) {
            add_sources(cache, h, before);
        } else {
            add_places(cache, h);
        }
    }

    std::size_t chunks() const { return chunks_.size(); }
    const Chunk& chunk(std::size_t c) const { return chunks_[c]; }

    /// Entries of the list at the end of chunk c of a text of `tokens`.
    Index entries_at_end(std::size_t c, Index tokens) const {
        const Index end = c + 1 < chunks_.size() ? chunks_[c + 1].token : tokens;
        return chunks_[c].entries + end - chunks_[c].token;
    }

    /// Entry e of those that a chunk began with: its key [key_dim], as it was stored, and its value [value_dim].
    const C* key(const Chunk& chunk, Index e, Index key_dim) const {
        return keys_.data() + (static_cast<Index>(chunk.first_entry) + e) * key_dim;
    }
    const C* value(const Chunk& chunk, Index e, Index value_dim) const {
        return values_.data() + (static_cast<Index>(chunk.first_entry) + e) * value_dim;
    }

    /// Of the entries that a chunk began with, [chunk.entries]: their positions in the text, or none if these are the
    /// indices; and what attention added to their scores, or none if nothing. Both are kept of transforms alone: what a
    /// selection keeps has the position that it came with, and counts once.
    std::span<const Index> positions(const Chunk& chunk) const { return part(positions_, chunk); }
    std::span<const C> log_weights(const Chunk& chunk) const { return part(log_weights_, chunk); }

    /// The compression that a chunk began with.
    CompressionMap map(const Chunk& chunk) const {
        return {{spans_.data() + chunk.first_span, chunk.spans}, part(sources_, chunk)};
    }

    Index bytes() const {
        return static_cast<Index>(
            chunks_.capacity() * sizeof(Chunk) +
            (keys_.capacity() + values_.capacity() + log_weights_.capacity()) * sizeof(C) +
            spans_.capacity() * sizeof(Span) +
            (sources_.capacity() + positions_.capacity() + old_tokens_.capacity() + tokens_.capacity()) *
                sizeof(Index));
    }

private:
    // After selections an entry is one token, by which it is found in the list before.
    template <class Cache>
    void add_sources(const Cache& cache, Index h, const Chunk& before) {
        std::swap(old_tokens_, tokens_);
        tokens_.clear();
        Index source = 0;
        for (Index i = 0; i < cache.size(h); ++i) {
            const Index token = cache.entry_tokens(h, i).begin;
            while (source < before.entries && old_tokens_[static_cast<std::size_t>(source)] < token) ++source;
            if (token >= before.token) source = before.entries + token - before.token;
            tokens_.push_back(token);
            sources_.push_back(source);
        }
    }

    // Where a transform has put entries, and how often they count.
    template <class Cache>
    void add_places(const Cache& cache, Index h) {
        if (cache.options().positions == Positions::text) {
            for (Index i = 0; i < cache.size(h); ++i) positions_.push_back(middle_of(cache.entry_tokens(h, i)));
        }
        for (const C weight : cache.weights(h)) log_weights_.push_back(std::log(weight));
    }

    template <class X>
    static std::span<const X> part(const std::vector<X>& of_all, const Chunk& chunk) {
        if (of_all.empty()) return {};
        return {of_all.data() + chunk.first_entry, static_cast<std::size_t>(chunk.entries)};
    }

    std::vector<Chunk> chunks_;
    std::vector<C> keys_;                     // [entries of all chunks, key_dim], rotated as they were stored
    std::vector<C> values_;                   // [entries of all chunks, value_dim]
    std::vector<Span> spans_;                 // of all compressions
    std::vector<Index> sources_;              // [entries of all chunks], by a selection: their index before it
    std::vector<Index> positions_;            // [entries of all chunks], by a transform, in the text; or none
    std::vector<C> log_weights_;              // [entries of all chunks], by a transform; or none
    std::vector<Index> old_tokens_, tokens_;  // of the entries after the latest selection
};

}  // namespace freqkv::detail::inline FREQKV_ISA
