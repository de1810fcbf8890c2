// SPDX-License-Identifier: MIT
#pragma once

namespace freqkv {

/// Sums of squares over a compression: of what went in, and of the part that did not come out again.
struct Energy {
    double total = 0;      ///< sum of squares of the entries before
    double discarded = 0;  ///< sum of squares of the frequencies that were dropped; 0 <= discarded <= total

    /// The discarded part, 0 to 1; 0 where there was nothing.
    double relative() const { return total > 0 ? discarded / total : 0; }

    Energy& operator+=(const Energy& other) {
        total += other.total;
        discarded += other.discarded;
        return *this;
    }

    friend bool operator==(const Energy&, const Energy&) = default;
};

}  // namespace freqkv
