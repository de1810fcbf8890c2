// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/pairs.hpp"
#include "freqkv/error.hpp"
#include "freqkv/rope_options.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::inline FREQKV_ISA {

/// Rotates and un-rotates rows of head_dim elements. Angles of positions in [0, table_positions()) are
/// tabulated once; others are computed when asked for, to the same values. Const, safe to use from
/// many threads, and cheap to copy: copies share the table.
///
/// C is float or double; angles are computed in double and rounded to C.
template <class C>
class Rope {
    static_assert(std::is_same_v<C, float> || std::is_same_v<C, double>, "Rope<C> computes in float or double");

public:
    /// Tabulates positions [0, table_positions): table_positions * rotated_dims elements.
    /// Throws Error for an option outside its range.
    [[gnu::cold]] explicit Rope(const RopeOptions& options, Index table_positions = 0)
        : head_dim_(options.head_dim), pairing_(options.pairing) {
        tabulate(rope_frequencies(options), table_positions);
    }

    /// The same rotation with two positions for each: 2 p here is p there, and 2 p + 1 the half-way to the next. What
    /// caches with Positions::text need; tabulates `tokens` of the text.
    [[gnu::cold]] Rope in_half_steps(Index tokens) const {
        require(steps_ == 1, "steps of the rope", steps_, "must be 1");
        std::vector<double> frequencies = table_->frequencies;
        for (double& frequency : frequencies) frequency /= 2;
        return Rope(*this, std::move(frequencies), checked_product("positions of half steps", tokens, 2));
    }
    /// Positions for each token: 1, or 2 after in_half_steps().
    Index steps() const { return steps_; }

    Index head_dim() const { return head_dim_; }
    Index pairs() const { return pairs_; }
    RopePairing pairing() const { return pairing_; }
    /// Radians for each position, [pairs()].
    std::span<const double> frequencies() const { return table_->frequencies; }
    Index table_positions() const { return table_->positions; }
    /// Bytes of the table, shared by all copies.
    Index table_bytes() const { return table_->angles.bytes(); }

    /// The pairs() cosines of a position's angles followed by the pairs() sines. Points into the table
    /// where that reaches, else to `scratch` (2 * pairs() elements), which is then filled. `position`
    /// may be negative.
    const C* angles(Index position, C* scratch) const {
        if (position >= 0 && position < table_->positions) return table_->angles.data() + position * 2 * pairs_;
        compute_angles(position, scratch);
        return scratch;
    }

    /// Turns one row by the given angles (see angles()), backwards if Inverse; out may be in.
    /// In and Out are any element types; strides are in elements.
    template <bool Inverse = false, class In, class Out>
    void turn(const In* in, Index in_stride, Out* out, Index out_stride, const C* angles) const {
        if (in_stride == 1 && out_stride == 1) return turn_dense<Inverse>(in, out, angles);
        turn_strided<Inverse>(0, in, in_stride, out, out_stride, angles);
        for (Index d = 2 * pairs_; d < head_dim_; ++d) {
            out[d * out_stride] = static_cast<Out>(static_cast<C>(in[d * in_stride]));
        }
    }

    /// Rotates every row of x in place; token t of each head is at position first_position + t.
    /// x is [heads, tokens, head_dim] with any strides.
    template <class T>
    void rotate(KVView<T> x, Index first_position = 0) const {
        turn_all<false>(x, [=](Index t) { return first_position + t; });
    }

    /// Rotates in place, token t at positions[t].
    template <class T>
    void rotate(KVView<T> x, std::span<const Index> positions) const {
        check_positions(x.tokens, positions);
        turn_all<false>(x, [=](Index t) { return positions[static_cast<std::size_t>(t)]; });
    }

    /// Undoes rotate() up to the rounding of T.
    template <class T>
    void unrotate(KVView<T> x, Index first_position = 0) const {
        turn_all<true>(x, [=](Index t) { return first_position + t; });
    }

    /// Undoes rotate(x, positions) up to the rounding of T.
    template <class T>
    void unrotate(KVView<T> x, std::span<const Index> positions) const {
        check_positions(x.tokens, positions);
        turn_all<true>(x, [=](Index t) { return positions[static_cast<std::size_t>(t)]; });
    }

private:
    struct Table {
        Index positions = 0;
        std::vector<double> frequencies;  // [pairs], radians per position
        AlignedBuffer<C> angles;          // [positions, 2, pairs]: cosines, sines
    };

    Rope(const Rope& of, std::vector<double> frequencies, Index table_positions)
        : head_dim_(of.head_dim_), pairing_(of.pairing_), steps_(2) {
        tabulate(std::move(frequencies), table_positions);
    }

    void tabulate(std::vector<double> frequencies, Index table_positions) {
        auto table = std::make_shared<Table>();
        table->frequencies = std::move(frequencies);
        pairs_ = static_cast<Index>(table->frequencies.size());
        require(table_positions >= 0, "table_positions", table_positions, "must not be negative");
        table->positions = table_positions;
        table->angles = AlignedBuffer<C>(checked_product("rope table size", table_positions, 2 * pairs_));
        table_ = table;
        for (Index p = 0; p < table_positions; ++p) compute_angles(p, table->angles.data() + p * 2 * pairs_);
    }

    void compute_angles(Index position, C* row) const {
        for (Index i = 0; i < pairs_; ++i) {
            const double angle = static_cast<double>(position) * table_->frequencies[static_cast<std::size_t>(i)];
            row[i] = static_cast<C>(std::cos(angle));
            row[pairs_ + i] = static_cast<C>(std::sin(angle));
        }
    }

    // Dense rows, by the register.
    template <bool Inverse, class In, class Out>
    void turn_dense(const In* in, Out* out, const C* angles) const {
        const bool adjacent = pairing_ == RopePairing::adjacent;
        const Index distance = adjacent ? 1 : pairs_;
        Index i = 0;
        for (; i + detail::lane_count<C> <= pairs_; i += detail::lane_count<C>) {
            const Index first = adjacent ? 2 * i : i;
            const auto [x, y] = detail::load_pairs<C>(in + first, distance);
            const detail::Lanes<C> cosine = detail::load_lanes<C>(angles + i);
            const detail::Lanes<C> sine = detail::load_lanes<C>(angles + pairs_ + i);
            const auto a = Inverse ? x * cosine + y * sine : x * cosine - y * sine;
            const auto b = Inverse ? y * cosine - x * sine : x * sine + y * cosine;
            detail::store_pairs<C>(out + first, distance, a, b);
        }
        turn_strided<Inverse>(i, in, 1, out, 1, angles);
        detail::convert_row(in + 2 * pairs_, head_dim_ - 2 * pairs_, out + 2 * pairs_);
    }

    // Pairs from `first_pair` on.
    template <bool Inverse, class In, class Out>
    void turn_strided(Index first_pair, const In* in, Index in_stride, Out* out, Index out_stride,
                      const C* angles) const {
        const bool adjacent = pairing_ == RopePairing::adjacent;
        for (Index i = first_pair; i < pairs_; ++i) {
            const Index x = adjacent ? 2 * i : i;
            const Index y = x + (adjacent ? 1 : pairs_);
            const C a = static_cast<C>(in[x * in_stride]);
            const C b = static_cast<C>(in[y * in_stride]);
            const C cosine = angles[i];
            const C sine = Inverse ? -angles[pairs_ + i] : angles[pairs_ + i];
            out[x * out_stride] = static_cast<Out>(a * cosine - b * sine);
            out[y * out_stride] = static_cast<Out>(a * sine + b * cosine);
        }
    }

    template <bool Inverse, class T, class Position>
    void turn_all(KVView<T> x, Position position) const {
        static_assert(!std::is_const_v<T>, "rotation in place needs a mutable view");
        require(x.head_dim == head_dim_, "head_dim of the view", x.head_dim, "must be the rope's head_dim");
        std::vector<C> scratch(static_cast<std::size_t>(2 * pairs_));
        for (Index t = 0; t < x.tokens; ++t) {
            const C* const row_angles = angles(position(t), scratch.data());
            for (Index h = 0; h < x.heads; ++h) {
                T* const row = x.data + h * x.head_stride + t * x.token_stride;
                turn<Inverse>(row, x.dim_stride, row, x.dim_stride, row_angles);
            }
        }
    }

    static void check_positions(Index tokens, std::span<const Index> positions) {
        const auto count = static_cast<Index>(positions.size());
        require(count == tokens, "number of positions", count, "must be the number of tokens of the view");
    }

    Index head_dim_;
    Index pairs_ = 0;
    RopePairing pairing_;
    Index steps_ = 1;
    std::shared_ptr<const Table> table_;
};

}  // namespace freqkv::inline FREQKV_ISA
