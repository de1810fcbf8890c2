// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/policy/codec.hpp"

namespace freqkv::inline FREQKV_ISA {

/// A TransformPlan that can be differentiated through: adjoint() is the transpose of forward(). It reads kept
/// rows of a block of columns, all of them before it writes the first of its n rows. Const, called from several
/// threads at once, must not throw. FrequencyCompressor is one.
template <class Plan, class C>
concept DifferentiablePlan =
    TransformPlan<Plan, C> && requires(const Plan& plan, const detail::RowArchetype<C>& rows, std::byte* scratch) {
        { plan.adjoint(rows, rows, scratch) } noexcept;
    };

/// A codec whose compressions have an adjoint: a selection (what it chooses counts as constant), or a transform
/// with a DifferentiablePlan. One that keeps some entries and transforms the others, or merges entries, has none.
template <class Codec, class C>
concept DifferentiableCodec =
    !HybridCodec<Codec, C> && (SelectionCodec<Codec, C> || requires(const Codec& codec, Index length, Index keep) {
        { codec.template plan<C>(length, keep) } -> DifferentiablePlan<C>;
    });

}  // namespace freqkv::inline FREQKV_ISA
