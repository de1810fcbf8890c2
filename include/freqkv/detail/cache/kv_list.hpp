// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/detail/cache/list_rows.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/policy/report.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The entries of one KV head. Keys are stored rotated.
template <class T>
class KVList {
public:
    using C = Arithmetic<T>;

    ListCounts counts;
    SpanList compressed;  // what the latest compression took, as the list was before it

    // `exact` counts under packed types; `has_mass`: whether the attention given to each entry is summed; `weighted`:
    // whether entries have weights.
    [[gnu::cold]] KVList(Index capacity, Index key_dim, Index value_dim, const ExactParts& exact, bool has_mass = false,
                         bool weighted = false)
        : capacity_(capacity),
          key_dim_(key_dim),
          value_dim_(value_dim),
          exact_(exact),
          keys_(capacity, key_dim, exact),
          values_(capacity, value_dim, exact),
          ranges_(capacity),
          mass_(has_mass ? capacity : 0),
          weights_(weighted ? capacity : 0),
          log_weights_(weighted ? capacity : 0) {}

    Index capacity() const { return capacity_; }
    auto keys() const { return keys_.view(counts); }
    auto values() const { return values_.view(counts); }
    TokenRange* ranges() const { return ranges_.data(); }         // [size]
    C* mass() const { return mass_.data(); }                      // [size], or null
    C* weights() const { return weights_.data(); }                // [size], tokens that each stands for, or null
    const C* log_weights() const { return log_weights_.data(); }  // [size], or null

    Index key_bytes() const { return keys_.bytes(); }
    Index value_bytes() const { return values_.bytes(); }
    Index range_bytes() const { return ranges_.bytes(); }
    Index mass_bytes() const { return mass_.bytes(); }
    Index weight_bytes() const { return weights_.bytes() + log_weights_.bytes(); }

    // Under a packed type.
    const ExactParts& exact_parts() const { return exact_; }

    // f(data, number of elements) of every array of a list with these counts, as far as it is in use; in one order.
    template <class F>
    void for_each_part(const ListCounts& of, const F& f) const {
        keys_.for_each_part(of, f);
        values_.for_each_part(of, f);
        f(ranges_.data(), of.size);
        if (mass_.size() > 0) f(mass_.data(), of.size);
        if (weights_.size() > 0) f(weights_.data(), of.size);
    }

    // Entries that a list must have room for to have these counts.
    Index needed_for(const ListCounts& of) const {
        return of.packed == 0 ? of.size : std::max(of.size, exact_.first + of.packed + exact_.latest);
    }

    // Throws Error unless a list such as this, which may be grown, can have these counts.
    void check_counts(const ListCounts& of, bool may_grow) const {
        require(of.packed % ExactParts::block == 0 && (is_packed<T> || of.packed == 0), "packed entries", of.packed,
                "must be whole blocks of a packed type");
        require(may_grow || needed_for(of) <= capacity_, "entries", needed_for(of), "must be within the capacity");
        const Index latest = of.size - std::min(of.size, exact_.first) - of.packed;
        require(!is_packed<T> || (latest >= 0 && latest <= exact_.latest + ExactParts::block), "exact entries", latest,
                "must be at most those of the options and a block");
    }

    // After a compression has changed the weights.
    void find_log_weights() {
        for (Index i = 0; i < counts.size && weights_.size() > 0; ++i) {
            log_weights_.data()[i] = std::log(weights_.data()[i]);
        }
    }

    // Where the key and the query of a token are rotated that is entry `entry` as it came: at its index, or at its
    // place in the text in half steps.
    Index position(Index entry, bool of_text) const {
        return of_text ? 2 * (counts.tokens_seen - counts.size + entry) : entry;
    }

    // Tokens that can be appended before pack() has to be called.
    Index exact_room() const
        requires is_packed<T>
    {
        return exact_.latest + ExactParts::block - latest();
    }

    // Packs a block of entries if there is no room for a further exact one; `scratch` [scratch_size()].
    void pack(C* scratch)
        requires is_packed<T>
    {
        if (exact_room() > 0) return;
        keys_.pack_block(counts, scratch);
        values_.pack_block(counts, scratch);
        counts.pack(ExactParts::block);
    }

    // Elements of scratch that append() and pack() need.
    static Index scratch_size(Index key_dim, Index value_dim) {
        return key_dim + (is_packed<T> ? std::max(key_dim, value_dim) : 0);
    }

    // Appends rows [first, first + count) of k and v, for which there must be room. `scratch` [scratch_size()].
    template <class K, class V>
    void append(MatrixView<const K> k, MatrixView<const V> v, Index first, Index count, const Rope<C>& rope,
                bool positions_of_text, C* scratch) {
        const Index token = counts.tokens_seen;
        for (Index t = 0; t < count; ++t) {
            const Index entry = counts.size + t;
            const C* const angles = rope.angles(position(entry, positions_of_text), scratch);
            if constexpr (is_packed<T>) {
                C* const row = scratch + key_dim_;
                rope.turn(k.row(first + t), k.column_stride, row, 1, angles);
                keys_.write_exact(counts, entry, row);
                for (Index d = 0; d < value_dim_; ++d) row[d] = static_cast<C>(v(first + t, d));
                values_.write_exact(counts, entry, row);
            } else {
                rope.turn(k.row(first + t), k.column_stride, keys_.row(entry), 1, angles);
                T* const value = values_.row(entry);
                if (v.column_stride == 1) {
                    convert_row(v.row(first + t), value_dim_, value);
                } else {
                    for (Index d = 0; d < value_dim_; ++d) value[d] = static_cast<T>(static_cast<C>(v(first + t, d)));
                }
            }
            ranges_.data()[entry] = {token + t, token + t + 1};
        }
        if (mass_.size() > 0) std::fill_n(mass_.data() + counts.size, count, C{0});
        if (weights_.size() > 0) {
            std::fill_n(weights_.data() + counts.size, count, C{1});
            std::fill_n(log_weights_.data() + counts.size, count, C{0});
        }
        counts.append(count);
    }

    // Makes room for `count` further entries, doubling so that the cost per token stays constant.
    void grow(Index count) {
        if (capacity_ - counts.size >= count) return;
        constexpr Index first_capacity = 256;
        KVList grown(std::max({first_capacity, 2 * capacity_, counts.size + count}), key_dim_, value_dim_,
                     exact_);  // all weigh 1
        grown.keys_.copy_from(keys_, counts);
        grown.values_.copy_from(values_, counts);
        std::copy_n(ranges_.data(), counts.size, grown.ranges_.data());
        grown.counts = counts;
        *this = std::move(grown);
    }

private:
    // Exact ones behind those that are packed.
    Index latest() const { return counts.size - std::min(counts.size, exact_.first) - counts.packed; }

    Index capacity_;
    Index key_dim_;
    Index value_dim_;
    ExactParts exact_;
    ListRows<T> keys_;
    ListRows<T> values_;
    AlignedBuffer<TokenRange> ranges_;  // [capacity]
    AlignedBuffer<C> mass_;             // [capacity], or none
    AlignedBuffer<C> weights_;          // [capacity], or none
    AlignedBuffer<C> log_weights_;      // [capacity], or none
};

}  // namespace freqkv::detail::inline FREQKV_ISA
