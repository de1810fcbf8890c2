// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

#include "freqkv/config.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/energy.hpp"
#include "freqkv/frequency_compressor.hpp"
#include "freqkv/policy/codec_needs.hpp"
#include "freqkv/policy/report.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"

namespace freqkv {

/// The latest queries of one KV head's group, un-rotated, oldest first; what codecs with a
/// query_window read. Non-owning view of a ring.
template <class C>
struct QueryWindow {
    const C* data = nullptr;  ///< [window, heads, dim]; the query of token t is row t % window
    Index window = 0;
    Index heads = 0;  ///< query heads of this KV head's group
    Index dim = 0;
    Index end = 0;  ///< tokens seen; the last query is that of token end - 1

    /// Tokens whose queries are here: `window`, or fewer at the beginning of a text.
    Index tokens() const { return end < window ? end : window; }

    /// The query [dim] of group member `head`; token 0 is the oldest in the window.
    const C* query(Index token, Index head) const {
        return data + ((end - tokens() + token) % window * heads + head) * dim;
    }
};

}  // namespace freqkv

namespace freqkv::inline FREQKV_ISA {

/// What a codec that looks at the data may read of the span it compresses: `size()` entries of one KV
/// head, and list() for those around it. T is the cache's element type; rows come out in Arithmetic<T>.
template <class T>
class SpanReader {
public:
    using C = Arithmetic<T>;

    /// Entries [first, first + size) of a list. `rope` is null where the stored keys are not rotated; `positions` are
    /// none where entry i of the list is at position i.
    SpanReader(Index head, MatrixView<const T> list_keys, MatrixView<const T> list_values, const Rope<C>* rope,
               std::span<const Index> positions, Index first, Index size, QueryWindow<C> queries,
               const C* attention_mass = nullptr, const C* log_weights = nullptr, const TokenRange* tokens = nullptr)
        : head_(head),
          keys_(list_keys),
          values_(list_values),
          rope_(rope),
          positions_(positions),
          first_(first),
          size_(size),
          queries_(queries),
          mass_(attention_mass),
          log_weights_(log_weights),
          tokens_(tokens) {}

    Index head() const { return head_; }
    Index size() const { return size_; }
    Index key_dim() const { return keys_.columns; }
    Index value_dim() const { return values_.columns; }
    /// Index in the head's list of the span's first entry, and the list's length.
    Index first() const { return first_; }
    Index list_size() const { return keys_.rows; }
    /// The head's whole list, sinks and recent part included.
    SpanReader list() const {
        return {head_, keys_, values_, rope_, positions_, 0, list_size(), queries_, mass_, log_weights_, tokens_};
    }
    /// The position that entry i of the span is rotated at.
    Index position(Index i) const {
        return positions_.empty() ? first_ + i : positions_[static_cast<std::size_t>(first_ + i)];
    }

    /// The position at which the queries of the latest token but `back` were asked: that of its key, if this is in the
    /// list as it came, which is so in the recent part.
    Index query_position(Index back) const {
        return positions_.empty() ? std::max<Index>(0, list_size() - 1 - back) : 2 * (queries_.end - 1 - back);
    }

    /// How the stored keys are rotated; null where they are not.
    const Rope<C>* rope() const { return rope_; }

    /// The key of entry i before rotation, [key_dim]. `angles` is scratch of key_dim elements.
    void load_key(Index i, C* key, C* angles) const {
        if (rope_ != nullptr) {
            const T* const row = keys_.row(first_ + i);
            rope_->template turn<true>(row, keys_.column_stride, key, 1, rope_->angles(position(i), angles));
        } else {
            load_stored_key(i, key);
        }
    }

    /// The key of entry i as it is stored, rotated at position(i), [key_dim].
    void load_stored_key(Index i, C* key) const { load(keys_, first_ + i, key); }

    /// The value of entry i, [value_dim].
    void load_value(Index i, C* value) const { load(values_, first_ + i, value); }

    /// The latest queries; empty unless the codec has a query_window. See query_position().
    const QueryWindow<C>& queries() const { return queries_; }

    /// The softmax weights that queries have given to entry i so far, summed over the group; only for codecs that ask
    /// for them (reads_attention_mass).
    C attention_mass(Index i) const { return mass_[first_ + i]; }

    /// The tokens that have been seen, this text's.
    Index tokens_seen() const { return queries_.end; }

    /// The tokens that entry i stands for; not in a foreign cache, of which nobody knows them.
    TokenRange tokens(Index i) const { return tokens_[first_ + i]; }

    /// What attention adds to the scores of entry i: 0, or in a weighted cache the logarithm of its weight.
    C log_weight(Index i) const { return log_weights_ == nullptr ? C{0} : log_weights_[first_ + i]; }

private:
    static void load(const MatrixView<const T>& rows, Index row, C* to) {
        if (rows.column_stride == 1) {
            detail::convert_row(rows.row(row), rows.columns, to);
        } else {
            for (Index d = 0; d < rows.columns; ++d) to[d] = static_cast<C>(rows(row, d));
        }
    }

    Index head_;
    MatrixView<const T> keys_;    // of the list
    MatrixView<const T> values_;  // of the list
    const Rope<C>* rope_;
    std::span<const Index> positions_;
    Index first_;
    Index size_;
    QueryWindow<C> queries_;
    const C* mass_;             // [list_size], or null
    const C* log_weights_;      // [list_size], or null
    const TokenRange* tokens_;  // [list_size], or null
};

}  // namespace freqkv::inline FREQKV_ISA

namespace freqkv {

namespace detail {

// scratch_bytes() is optional; where it is there, it has to be of the right form, since otherwise select()
// would silently be given no scratch.
template <class Codec, class T>
concept NamesScratchBytes = requires { &Codec::scratch_bytes; } || requires { &Codec::template scratch_bytes<T>; };

template <class Codec, class T>
concept ScratchBytesFits =
    !NamesScratchBytes<Codec, T> || requires(const Codec& codec, const SpanReader<T>& span, Index keep) {
        { codec.scratch_bytes(span, keep) } -> std::convertible_to<Index>;
    };

}  // namespace detail

/// A codec that keeps some entries and drops the others. select() writes the indices in [0, size()) to
/// keep to `chosen` (`keep` elements), ascending, and returns how many: 1 to `keep`. Called from
/// several threads at once; it may throw, and then this compression does not happen.
///
/// Optional members: `static constexpr Index query_window` (queries wanted, default 0), `static constexpr bool
/// attention_mass` (see reads_attention_mass), with which `double attention_decay() const` (what is left of it for each
/// token that follows, in (0, 1], default 1), and
/// `template <class T> Index scratch_bytes(const SpanReader<T>& span, Index keep) const` for what `scratch`,
/// which is aligned to a cache line, is to hold for this span (default 0).
template <class Codec, class T>
concept SelectionCodec =
    std::copyable<Codec> && detail::ScratchBytesFits<Codec, T> &&
    requires(const Codec& codec, const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) {
        { codec.select(span, keep, chosen, scratch) } -> std::convertible_to<Index>;
    };

/// A linear map along the sequence, for one pair of lengths: reads n rows of a block of columns (at
/// most block_columns, an even number), all of them before it writes the first of its kept rows. Keys
/// are un-rotated when loaded and rotated when stored. Adds to `energy` if that is not null. Const,
/// called from several threads at once, must not throw. FrequencyCompressor is one.
template <class Plan, class C>
concept TransformPlan =
    requires(const Plan& plan, const detail::RowArchetype<C>& rows, std::byte* scratch, Energy* energy) {
        requires(Plan::block_columns > 0 && Plan::block_columns % 2 == 0);
        { plan.scratch_bytes() } -> std::convertible_to<Index>;
        { plan.forward(rows, rows, scratch, energy) } noexcept;
    };

/// A codec that maps columns: plan<C>(length, keep) makes the TransformPlan for one pair of lengths. It
/// is called outside parallel regions, once for each pair a cache meets, and may allocate and throw.
///
/// Optional member: `template <class T> Index kept(const SpanReader<T>& span, Index keep) const` for
/// codecs that keep fewer than `keep` entries (but at least 1) depending on the data; as select(), it
/// may throw. `static constexpr Index query_window` as for selections.
template <class Codec, class C>
concept TransformCodec = std::copyable<Codec> && requires(const Codec& codec, Index length, Index keep) {
    { codec.template plan<C>(length, keep) } -> TransformPlan<C>;
};

namespace detail {

template <class Codec, class C>
using PlanOf = decltype(std::declval<const Codec&>().template plan<C>(Index{}, Index{}));

template <class Codec, class T>
concept SelectsByPlan = ScratchBytesFits<Codec, T> && requires(const Codec& codec, const SpanReader<T>& span,
                                                               const PlanOf<Codec, Arithmetic<T>>& plan, Index keep,
                                                               Index* chosen, std::byte* scratch) {
    { codec.select(span, plan, keep, chosen, scratch) } -> std::convertible_to<Index>;
};

}  // namespace detail

/// The third kind of codec: it keeps some entries of a span exactly and transforms the others, in order of place. Of a
/// span of `length` entries that becomes `keep`, exact(length, keep), 0 to keep - 1, stay as they are: those that
/// select(span, exact(length, keep), …) chooses, which is not asked for 0 of them. The others, length - exact in a row,
/// go through plan(length - exact, keep - exact); row k of its result stands in the middle of its part of them. Scratch
/// for select() is asked for with `keep`; there is no kept() beside exact().
///
/// A codec that chooses by what its transform would lose has select(span, plan, exact, …) instead: `plan` is
/// plan(length, keep - exact), the whole span to as many rows as the others will get, and behind what scratch_bytes()
/// asks for, on a cache line, is its scratch.
template <class Codec, class T>
concept HybridCodec =
    TransformCodec<Codec, Arithmetic<T>> && (SelectionCodec<Codec, T> || detail::SelectsByPlan<Codec, T>) &&
    requires(const Codec& codec, Index length, Index keep) {
        { codec.exact(length, keep) } -> std::convertible_to<Index>;
    };

/// The fourth kind of codec: it merges entries. merge() writes to `into` [size()], for each entry of the span, the
/// index of the one that it goes into; an entry with its own index stays, and others go only into such. 1 to `keep`
/// have to stay. The key (un-rotated) and the value of one that stays become the means of those that go into it and of
/// its own, each counted as often as it stands for tokens; one into which nothing goes is left as it is. Called from
/// several threads at once; it may throw, and then this compression does not happen. Optional members as of a
/// selection.
template <class Codec, class T>
concept MergeCodec = std::copyable<Codec> && detail::ScratchBytesFits<Codec, T> &&
                     requires(const Codec& codec, const SpanReader<T>& span, Index keep, Index* into,
                              std::byte* scratch) { codec.merge(span, keep, into, scratch); };

namespace detail {

// What FrequencyCodec plans with. It is said here, where the concept is that looks at a codec's plans, because
// policy/low_pass.hpp is read by compilers for devices, too.
template <class C, class Backend>
struct LowPassPlan;
template <class C, DctBackend<C> Backend>
struct LowPassPlan<C, Backend> {
    using type = FrequencyCompressor<C, Backend>;
};

}  // namespace detail

}  // namespace freqkv
