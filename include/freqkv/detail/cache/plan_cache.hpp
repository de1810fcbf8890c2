// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/policy/codec.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The transform plans that a cache has met, by pair of lengths. A schedule has few pairs; a codec that
// keeps any number of entries could meet thousands, so beyond max_size all are dropped. References to
// plans are valid until the next call of make().
template <class Codec, class C>
class PlanCache {
public:
    using Plan = PlanOf<Codec, C>;
    static constexpr std::size_t max_size = 64;

    // To be called before the plans of one compression are made.
    void drop_if_many() {
        if (entries_.size() > max_size) entries_.clear();
    }

    const Plan& make(const Codec& codec, Index length, Index keep) {
        if (const Plan* known = find(length, keep)) return *known;
        return entries_.emplace_back(length, keep, codec.template plan<C>(length, keep)).plan;
    }

    const Plan* find(Index length, Index keep) const {
        for (const Entry& entry : entries_) {
            if (entry.length == length && entry.keep == keep) return &entry.plan;
        }
        return nullptr;
    }

private:
    struct Entry {
        Index length;
        Index keep;
        Plan plan;

        Entry(Index length_, Index keep_, Plan plan_) : length(length_), keep(keep_), plan(std::move(plan_)) {}
    };

    std::vector<Entry> entries_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
