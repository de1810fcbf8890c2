// SPDX-License-Identifier: MIT
#include "llama/model/products/kernels.hpp"

#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__FMA__) && defined(__F16C__)
#include "llama/model/products/byte_products.hpp"

namespace llama::detail {
namespace {

struct Avx512Vnni {
    using Integers [[gnu::vector_size(64)]] = std::int32_t;
    using Floats [[gnu::vector_size(64)]] = float;
    static constexpr int lanes = 16;
    static constexpr int tokens = 8;
    template <class Format>
    static constexpr bool takes_sign = false;
    template <class Format>
    static constexpr Index steps = Format::part / 4;

    static Integers load(const std::uint32_t* from) { return Integers(_mm512_loadu_si512(from)); }
    static Floats load(const float* from) { return Floats(_mm512_loadu_ps(from)); }
    static void store(float* to, Floats x) { _mm512_storeu_ps(to, __m512(x)); }
    static Floats to_floats(Integers x) { return __builtin_convertvector(x, Floats); }

    template <class Format>
    static Integers add(Integers sum, Integers weights, std::int32_t four) {
        return Integers(_mm512_dpbusd_epi32(__m512i(sum), __m512i(weights), _mm512_set1_epi32(four)));
    }
    static Integers sum(Integers total, Integers some) { return total + some; }

    template <class Format>
    static __m256i dot(__m256i weights, const std::int8_t* x) {
        return _mm256_dpbusd_epi32(_mm256_setzero_si256(), weights, load_32_bytes(x));
    }
};

constexpr ByteKernels kernels = byte_kernels_of<Avx512Vnni>("AVX-512 VNNI");

}  // namespace

const ByteKernels* const avx512_vnni_bytes = &kernels;

}  // namespace llama::detail
#else
namespace llama::detail {
const ByteKernels* const avx512_vnni_bytes = nullptr;
}
#endif
