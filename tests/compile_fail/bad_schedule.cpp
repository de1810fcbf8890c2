// SPDX-License-Identifier: MIT
#include "freqkv/policy/local_window.hpp"
#include "freqkv/sinked_kv_cache.hpp"

// Its plan() forgets the number of compressions.
struct ForgetfulSchedule {
    freqkv::SpanList plan(const freqkv::CacheLayout& layout) const { return {{layout.sinks, 2, 1}}; }
};

struct BadSchedule {
    ForgetfulSchedule schedule;
    freqkv::SelectLatest codec;
};

using Cache = freqkv::SinkedKVCache<float, BadSchedule>;
freqkv::Index size_of(const Cache& cache) { return cache.size(); }
