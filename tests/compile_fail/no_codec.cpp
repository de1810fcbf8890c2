// SPDX-License-Identifier: MIT
#include "freqkv/policy/whole_span.hpp"
#include "freqkv/sinked_kv_cache.hpp"

struct NoCodec {
    freqkv::WholeSpan schedule;
};

using Cache = freqkv::SinkedKVCache<float, NoCodec>;
freqkv::Index size_of(const Cache& cache) { return cache.size(); }
