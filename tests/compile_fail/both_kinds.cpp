// SPDX-License-Identifier: MIT
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"

// Selects and transforms, and does not say how many entries stay as they are.
struct BothKinds {
    freqkv::WholeSpan schedule;
    struct Codec : freqkv::SelectLatest, freqkv::FrequencyCodec<> {
    } codec;
};

freqkv::Index size_of(const freqkv::SinkedKVCache<float, BothKinds>& cache) { return cache.size(); }
