// SPDX-License-Identifier: MIT
#include "llama/model/products/kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "llama/model/products/avx2_instructions.hpp"
#include "llama/model/products/byte_products.hpp"

namespace llama::detail {
namespace {

// Bytes are multiplied and added by pairs, in 16 bits with saturation: two products of a byte above 127 would not fit,
// of smaller ones several.
struct Avx2 : Avx2Registers {
    template <class Format>
    static constexpr bool takes_sign = Format::largest > 127;
    template <class Format>
    static constexpr Index steps = takes_sign<Format>      ? 1
                                   : Format::largest <= 15 ? (Format::part / 4)
                                   : Format::largest <= 31 ? 4
                                                           : 2;

    template <class Format>
    static Integers add(Integers sum, Integers weights, std::int32_t four) {
        return Integers(_mm256_add_epi16(__m256i(sum), pairs<Format>(__m256i(weights), _mm256_set1_epi32(four))));
    }
    static Integers sum(Integers total, Integers some) { return total + Integers(fours(__m256i(some))); }

    template <class Format>
    static __m256i dot(__m256i weights, const std::int8_t* x) {
        if constexpr (takes_sign<Format>) weights = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        return fours(pairs<Format>(weights, load_32_bytes(x)));
    }

private:
    template <class Format>
    static __m256i pairs(__m256i weights, __m256i x) {
        if constexpr (!takes_sign<Format>) return _mm256_maddubs_epi16(weights, x);
        return _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
    }
    static __m256i fours(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
};

constexpr ByteKernels kernels = byte_kernels_of<Avx2>("AVX2");

}  // namespace

const ByteKernels* const avx2_bytes = &kernels;

}  // namespace llama::detail
#else
namespace llama::detail {
const ByteKernels* const avx2_bytes = nullptr;
}
#endif
