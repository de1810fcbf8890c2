// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/compression_scratch.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/detail/cache/move_entries.hpp"
#include "freqkv/detail/cache/selection_engine.hpp"
#include "freqkv/energy.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// What ListCompressor does under a codec that merges entries. Before the commit it has the codec say what goes into
// what; in the commit the mean of each group is written over the entry that stays, rotated for where it will go, so
// that closing up moves it as it moves what was computed in a hybrid. An entry into which nothing goes is moved as if
// it had been selected. SelectionEngine has the same members.
template <class T, MergeCodec<T> Codec>
class MergeEngine {
public:
    using C = Arithmetic<T>;
    using Scratch = CompressionScratch<C>;

    static constexpr Index indices = 3;

    void make_plans(const Codec& /*codec*/, const SpanList& /*spans*/) {}

    // Scratch for the codec, and in the commit for a mean and a row. May throw.
    template <Executor E>
    Index begin(const Codec& codec, std::span<DueList<T>> lists, const CompressionSettings<T>& settings,
                const E& /*executor*/) {
        Index most = 0;
        for (const DueList<T>& list : lists) most = std::max({most, list.keys.columns, list.values.columns});
        return std::max(Selection::scratch_bytes(codec, lists, settings), 2 * WorkspaceCursor::size<C>(most));
    }

    static Index key_tasks(const DueList<T>& list, const CompressionSettings<T>& settings) {
        return Selection::key_tasks(list, settings);
    }
    static Index tasks(const DueList<T>& list, const CompressionSettings<T>& settings) {
        return Selection::tasks(list, settings);
    }

    // For each span, to arrays of scratch.chosen_of() from its begin on, all relative to it: [0] what stays, in order,
    // as its index, or as ~(index) where others go into it; [1] what each entry goes into; [2] the next entry of the
    // same group, -1 behind the last. May throw.
    template <Executor E>
    void choose(const Codec& codec, std::span<DueList<T>> lists, const CompressionSettings<T>& settings,
                const Scratch& scratch, const E& executor) const {
        for_each_span(lists, executor, [&](DueList<T>& list, Index l, Span& span, Index worker) {
            Index* const items = scratch.chosen_of(l) + span.begin;
            Index* const into = scratch.chosen_of(l, 1) + span.begin;
            Index* const next = scratch.chosen_of(l, 2) + span.begin;
            codec.merge(reader(list, settings, span.begin, span.length), span.keep, into,
                        scratch.codec_bytes_of(worker));
            Index kept = 0;
            for (Index i = 0; i < span.length; ++i) {
                require(into[i] >= 0 && into[i] < span.length && into[into[i]] == into[i],
                        "index that the codec merges into", into[i],
                        "must be within the span and of an entry that stays");
                if (into[i] == i) items[kept++] = i;
            }
            require(kept >= 1 && kept <= span.keep, "number of entries left by the codec", kept,
                    "must be within 1 and what the schedule allows");
            std::fill_n(next, span.length, Index{-1});
            for (Index i = span.length - 1; i >= 0; --i) {
                if (into[i] == i) continue;
                next[i] = next[into[i]];
                next[into[i]] = i;
            }
            for (Index k = 0; k < kept; ++k) {
                if (next[items[k]] >= 0) items[k] = ~items[k];
            }
            span.keep = kept;
        });
    }

    // Each mean goes to the middle of its tokens.
    static void set_new_positions(std::span<const DueList<T>> lists, const Scratch& scratch) {
        for (Index l = 0; l < static_cast<Index>(lists.size()); ++l) {
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            for_each_group(list, scratch, l, [&](const Group& group) {
                scratch.set_new_position(l, group.to, middle_of(tokens_of(list, group)));
            });
        }
    }

    // The first part of the commit.
    template <Executor E>
    void apply(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const Scratch& scratch,
               const E& executor) const noexcept {
        const auto count = static_cast<Index>(lists.size());
        executor.for_each(count * 2, [&](Index task, Index worker) {
            const Index l = task / 2;
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            const bool of_keys = task % 2 == 0;
            for (Index s = 0; s < list.spans.size() && settings.observer.call != nullptr; ++s) {
                const Span& span = list.spans[s];
                for (Index i = 0; i < span.length; ++i) {
                    scratch.energies_of(l, s)[task % 2].total +=
                        row_energy(of_keys ? list.keys : list.values, span.begin + i);
                }
            }
            for_each_group(list, scratch, l, [&](const Group& group) {
                Energy* const energy =
                    settings.observer.call == nullptr ? nullptr : scratch.energies_of(l, group.s) + task % 2;
                write_mean(list, settings, group, of_keys, scratch.new_angles(l), scratch.angles_of(worker),
                           scratch.codec_bytes_of(worker), energy);
            });
        });
        executor.for_each(count, [&](Index l, Index) {
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            for_each_group(list, scratch, l, [&](const Group& group) {
                for (C* const sums : {list.mass, list.weights}) {
                    if (sums == nullptr) continue;
                    C sum = 0;
                    group.for_each([&](Index entry) { sum += sums[entry]; });
                    sums[group.entry] = sum;
                }
                if (list.ranges != nullptr) list.ranges[group.entry] = tokens_of(list, group);
            });
        });
    }

private:
    using Selection = SelectionEngine<T, Codec>;

    // Entries that become one: `entry`, which others go into, and will be at `to`.
    struct Group {
        Index s;  // number of the span
        Index entry;
        Index to;
        Index begin;  // of the span
        const Index* next;

        template <class F>
        void for_each(F&& f) const {
            for (Index i = entry - begin; i >= 0; i = next[i]) f(begin + i);
        }
    };

    template <class F>
    static void for_each_group(const DueList<T>& list, const Scratch& scratch, Index l, F&& f) {
        Index freed = 0;
        for (Index s = 0; s < list.spans.size(); ++s) {
            const Span& span = list.spans[s];
            const Index* const items = scratch.chosen_of(l) + span.begin;
            for (Index k = 0; k < span.keep; ++k) {
                if (items[k] >= 0) continue;
                f(Group{s, span.begin + ~items[k], span.begin - freed + k, span.begin,
                        scratch.chosen_of(l, 2) + span.begin});
            }
            freed += span.length - span.keep;
        }
    }

    // How many tokens an entry stands for; of a foreign cache nobody knows, and all count alike.
    static Index count_of(const DueList<T>& list, Index entry) {
        return list.ranges == nullptr ? 1 : list.ranges[entry].end - list.ranges[entry].begin;
    }

    // As many tokens as the group stands for, about the middle of them all. They may have gaps, but what counts of them
    // is how many they are and, for positions, where their middle is.
    static TokenRange tokens_of(const DueList<T>& list, const Group& group) {
        Index count = 0, middles = 0;
        group.for_each([&](Index entry) {
            count += count_of(list, entry);
            middles += count_of(list, entry) * middle_of(list.ranges[entry]);
        });
        const Index begin = (middles - count * (count - 1) + count) / (2 * count);  // rounded
        const Index first = std::clamp<Index>(begin, 0, list.queries.end - count);
        return {first, first + count};
    }

    // `scratch` is for a mean and a row of the list, `angles` for Rope::angles().
    static void write_mean(const DueList<T>& list, const CompressionSettings<T>& settings, const Group& group,
                           bool of_keys, const C* const* new_angles, C* angles, std::byte* scratch,
                           Energy* energy) noexcept {
        const SpanReader<T> entries = reader(list, settings, 0, list.keys.rows);
        const MatrixView<T>& rows = of_keys ? list.keys : list.values;
        const Index dim = rows.columns;
        WorkspaceCursor cursor(scratch);
        C* const mean = cursor.take<C>(dim);
        C* const x = cursor.take<C>(dim);
        const auto load = [&](Index entry) {
            if (of_keys) {
                entries.load_key(entry, x, angles);
            } else {
                entries.load_value(entry, x);
            }
        };
        std::fill_n(mean, dim, C{0});
        Index count = 0;
        group.for_each([&](Index entry) {
            load(entry);
            const Index tokens = count_of(list, entry);
            for (Index d = 0; d < dim; ++d) mean[d] += static_cast<C>(tokens) * x[d];
            count += tokens;
        });
        for (Index d = 0; d < dim; ++d) mean[d] /= static_cast<C>(count);
        if (energy != nullptr) {
            double lost = 0, all = 0;
            group.for_each([&](Index entry) {
                load(entry);
                for (Index d = 0; d < dim; ++d) {
                    const auto difference = static_cast<double>(x[d] - mean[d]);
                    lost += difference * difference;
                    all += static_cast<double>(x[d]) * static_cast<double>(x[d]);
                }
            });
            energy->discarded += std::min(lost, all);
        }
        T* const row = rows.row(group.entry);
        if (of_keys && settings.rope != nullptr) {
            settings.rope->turn(mean, 1, row, rows.column_stride, new_angles[group.to]);
        } else {
            for (Index d = 0; d < dim; ++d) row[d * rows.column_stride] = static_cast<T>(mean[d]);
        }
    }
};

}  // namespace freqkv::detail::inline FREQKV_ISA
