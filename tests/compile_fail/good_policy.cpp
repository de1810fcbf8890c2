// SPDX-License-Identifier: MIT
#include "freqkv/policy/local_window.hpp"
#include "freqkv/sinked_kv_cache.hpp"

struct GoodPolicy {
    freqkv::WholeSpan schedule;
    freqkv::SelectLatest codec;
};

using Cache = freqkv::SinkedKVCache<float, GoodPolicy>;
freqkv::Index size_of(const Cache& cache) { return cache.size(); }
