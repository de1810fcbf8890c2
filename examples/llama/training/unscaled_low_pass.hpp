// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/frequency_compressor.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace llama {

using freqkv::Index;

/// The low-pass without the factor that restores the amplitude: a constant grows by sqrt(n / kept) at each
/// compression. What the factor is for is seen by leaving it out (Figure 6 of the paper); no use otherwise.
struct UnscaledFrequencyCodec {
    template <class C>
    class Plan {
        using Compressor = freqkv::FrequencyCompressor<C, freqkv::dct::Simd>;

    public:
        static constexpr Index block_columns = Compressor::block_columns;

        Plan(Index length, Index keep)
            : compressor_(length, keep),
              growth_(static_cast<C>(std::sqrt(static_cast<double>(length) / static_cast<double>(keep)))) {}

        Index scratch_bytes() const { return compressor_.scratch_bytes(); }

        template <freqkv::RowSource<C> In, freqkv::RowSink<C> Out>
        void forward(const In& in, const Out& out, std::byte* scratch, freqkv::Energy* energy) const noexcept {
            compressor_.forward(in, Amplified<Out>{out, growth_}, scratch, energy);
        }

        template <freqkv::RowSource<C> In, freqkv::RowSink<C> Out>
        void adjoint(const In& in, const Out& out, std::byte* scratch) const noexcept {
            compressor_.adjoint(in, Amplified<Out>{out, growth_}, scratch);
        }

    private:
        template <class Out>
        struct Amplified {
            const Out& out;
            C factor;

            Index columns() const { return out.columns(); }
            void store(Index row, const C* values) const {
                C amplified[block_columns] = {};
                for (Index c = 0; c < columns(); ++c) amplified[c] = factor * values[c];
                out.store(row, amplified);
            }
        };

        Compressor compressor_;
        C growth_;
    };

    template <class C>
    Plan<C> plan(Index length, Index keep) const {
        return Plan<C>(length, keep);
    }
};

struct UnscaledLowPass {
    freqkv::WholeSpan schedule;
    UnscaledFrequencyCodec codec;

    explicit UnscaledLowPass(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace llama
