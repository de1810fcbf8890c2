// SPDX-License-Identifier: MIT
#include "llama/model/products/kernels.hpp"

#if defined(__AVXVNNI__) && defined(__FMA__) && defined(__F16C__)
#include "llama/model/products/avx2_instructions.hpp"
#include "llama/model/products/byte_products.hpp"

namespace llama::detail {
namespace {

struct AvxVnni : Avx2Registers {
    template <class Format>
    static constexpr bool takes_sign = false;
    template <class Format>
    static constexpr Index steps = Format::part / 4;

    template <class Format>
    static Integers add(Integers sum, Integers weights, std::int32_t four) {
        return Integers(_mm256_dpbusd_avx_epi32(__m256i(sum), __m256i(weights), _mm256_set1_epi32(four)));
    }
    static Integers sum(Integers total, Integers some) { return total + some; }

    template <class Format>
    static __m256i dot(__m256i weights, const std::int8_t* x) {
        return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), weights, load_32_bytes(x));
    }
};

constexpr ByteKernels kernels = byte_kernels_of<AvxVnni>("AVX-VNNI");

}  // namespace

const ByteKernels* const avx_vnni_bytes = &kernels;

}  // namespace llama::detail
#else
namespace llama::detail {
const ByteKernels* const avx_vnni_bytes = nullptr;
}
#endif
