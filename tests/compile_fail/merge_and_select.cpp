// SPDX-License-Identifier: MIT
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/merge.hpp"
#include "freqkv/sinked_kv_cache.hpp"

// A codec that merges and selects.
struct MergeAndSelect {
    freqkv::WholeSpan schedule;
    struct Codec : freqkv::SelectLatest, freqkv::MergeSimilar {
    } codec;
};

freqkv::Index size_of(const freqkv::SinkedKVCache<float, MergeAndSelect>& cache) { return cache.size(); }
