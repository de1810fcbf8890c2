// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/compression_scratch.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/detail/cache/move_entries.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy/codec.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// What ListCompressor does under a codec that selects entries: it has them chosen before the commit, which then only
// moves entries. TransformEngine has the same members.
template <class T, class Codec>
class SelectionEngine {
public:
    using C = Arithmetic<T>;
    using Scratch = CompressionScratch<C>;

    static constexpr Index indices = 1;

    // Selections need no plans.
    void make_plans(const Codec& /*codec*/, const SpanList& /*spans*/) {}

    // Scratch for the codec, for each worker. May throw.
    template <Executor E>
    Index begin(const Codec& codec, std::span<DueList<T>> lists, const CompressionSettings<T>& settings,
                const E& /*executor*/) {
        return scratch_bytes(codec, lists, settings);
    }

    // Energies that a span of this list has: of its keys and of its values.
    static Index key_tasks(const DueList<T>&, const CompressionSettings<T>&) { return 1; }
    static Index tasks(const DueList<T>&, const CompressionSettings<T>&) { return 2; }

    // The indices of chosen entries, relative to a span's begin, to scratch.chosen_of(list) + begin. May throw.
    template <Executor E>
    void choose(const Codec& codec, std::span<DueList<T>> lists, const CompressionSettings<T>& settings,
                const Scratch& scratch, const E& executor) const {
        for_each_span(lists, executor, [&](DueList<T>& list, Index l, Span& span, Index worker) {
            Index* const chosen = scratch.chosen_of(l) + span.begin;
            const Index count = codec.select(reader(list, settings, span.begin, span.length), span.keep, chosen,
                                             scratch.codec_bytes_of(worker));
            require(count >= 1 && count <= span.keep, "number of entries chosen by the codec", count,
                    "must be within 1 and what the schedule allows");
            check_chosen(chosen, count, span);
            span.keep = count;
        });
    }

    // What is chosen keeps its position.
    static void set_new_positions(std::span<const DueList<T>>, const Scratch&) {}

    // Scratch that the codec asks for.
    static Index scratch_bytes(const Codec& codec, std::span<DueList<T>> lists,
                               const CompressionSettings<T>& settings) {
        Index most_bytes = 0;
        if constexpr (requires(const SpanReader<T>& span) { codec.scratch_bytes(span, Index{}); }) {
            for (const DueList<T>& list : lists) {
                for (const Span& span : list.spans) {
                    most_bytes = std::max<Index>(
                        most_bytes, codec.scratch_bytes(reader(list, settings, span.begin, span.length), span.keep));
                }
            }
        }
        require(most_bytes >= 0, "scratch_bytes of the codec", most_bytes, "must not be negative");
        return most_bytes;
    }

    // Checks what a codec has chosen of a span.
    static void check_chosen(const Index* chosen, Index count, const Span& span) {
        for (Index i = 0; i < count; ++i) {
            require(chosen[i] < span.length && chosen[i] > (i == 0 ? -1 : chosen[i - 1]), "index chosen by the codec",
                    chosen[i], "must be within the span and ascend");
        }
    }

    // The first part of the commit: what will be dropped is still there to be measured.
    template <Executor E>
    void apply(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const Scratch& scratch,
               const E& executor) const noexcept {
        if (settings.observer.call == nullptr) return;
        executor.for_each(static_cast<Index>(lists.size()) * 2, [&](Index task, Index) {
            const Index l = task / 2;
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            const MatrixView<T>& rows = task % 2 == 0 ? list.keys : list.values;
            for (Index s = 0; s < list.spans.size(); ++s) {
                scratch.energies_of(l, s)[task % 2] =
                    dropped_energy(rows, list.spans[s], scratch.chosen_of(l) + list.spans[s].begin);
            }
        });
    }
};

}  // namespace freqkv::detail::inline FREQKV_ISA
