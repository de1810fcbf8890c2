// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/sinked_kv_cache.hpp"
#include "naive_cache.hpp"

namespace freqkv::cache_test {

inline constexpr Index dim = 8;

inline naive::Rotary rotary(RopePairing pairing = RopePairing::adjacent) {
    return {.rotated_dims = dim, .adjacent = pairing == RopePairing::adjacent};
}

inline RopeOptions rope_options(RopePairing pairing = RopePairing::adjacent) {
    return {.head_dim = dim, .pairing = pairing};
}

template <class T, class P>
SinkedKVCache<T, P> make_cache(CacheOptions options, P policy = P{}, Workspace* shared = nullptr) {
    options.kv_heads = options.kv_heads == 0 ? 2 : options.kv_heads;
    options.key_dim = options.key_dim == 0 ? dim : options.key_dim;
    Rope<Arithmetic<T>> rope({.head_dim = options.key_dim}, std::max<Index>(options.capacity, 0));
    return SinkedKVCache<T, P>(options, rope, policy, shared);
}

template <class Cache, class K, class V>
void feed(Cache& cache, const KVView<const K>& k, const KVView<const V>& v, Index begin, Index end, Index chunk) {
    for (Index t = begin; t < end; t += chunk) {
        const Index count = std::min(chunk, end - t);
        cache.append(k.middle_tokens(t, count), v.middle_tokens(t, count));
    }
}

}  // namespace freqkv::cache_test
