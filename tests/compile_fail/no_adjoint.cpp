// SPDX-License-Identifier: MIT
#include "freqkv/adjoint/chunked_attention.hpp"
#include "freqkv/policy/whole_span.hpp"

// Good for inference: a plan with a forward(), but without its transpose.
struct FirstRows {
    struct Plan {
        static constexpr freqkv::Index block_columns = 8;
        freqkv::Index kept;

        freqkv::Index scratch_bytes() const { return 0; }
        template <class In, class Out>
        void forward(const In& in, const Out& out, std::byte*, freqkv::Energy*) const noexcept {
            float row[block_columns];
            for (freqkv::Index r = 0; r < kept; ++r) {
                in.load(r, row);
                out.store(r, row);
            }
        }
    };
    template <class C>
    Plan plan(freqkv::Index, freqkv::Index keep) const {
        return {keep};
    }
};

struct NoAdjoint {
    freqkv::WholeSpan schedule;
    FirstRows codec;
};

using Cache = freqkv::SinkedKVCache<float, NoAdjoint>;
freqkv::Index size_of(const Cache& cache) { return cache.size(); }

using Attention = freqkv::DifferentiableAttention<float, NoAdjoint>;
freqkv::Index bytes_of(const Attention& attention) { return attention.bytes(); }
