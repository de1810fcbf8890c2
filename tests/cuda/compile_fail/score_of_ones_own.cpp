// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"

// It is the host's code, which no kernel calls.
struct Latest {
    template <class T>
    void score(const freqkv::SpanReader<T>& span, freqkv::Arithmetic<T>* scores, std::byte* /*scratch*/) const {
        for (freqkv::Index i = 0; i < span.size(); ++i) scores[i] = static_cast<freqkv::Arithmetic<T>>(i);
    }
};
struct Policy {
    freqkv::WholeSpan schedule;
    freqkv::SelectHighest<Latest> codec;
};
template class freqkv::cuda::SinkedKVCache<float, Policy>;
