// SPDX-License-Identifier: MIT
#include "freqkv/policy/whole_span.hpp"
#include "freqkv/sinked_kv_cache.hpp"

// Neither a selection nor a transform.
struct Average {
    float average(const float* values, freqkv::Index count) const { return values[count - 1]; }
};

struct BadCodec {
    freqkv::WholeSpan schedule;
    Average codec;
};

using Cache = freqkv::SinkedKVCache<float, BadCodec>;
freqkv::Index size_of(const Cache& cache) { return cache.size(); }
