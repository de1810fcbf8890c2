// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// What a kernel reads of a plan: sizes and pointers to tables, which are made by transform_tables.hpp and lie
// where the kernel runs.
namespace freqkv::cuda::detail {

/// floor(value / divisor) for values and divisors below 2^16, by one multiplication.
class FastDivisor {
public:
    FastDivisor() = default;
    explicit constexpr FastDivisor(int divisor)
        : factor_(((std::uint64_t{1} << 32) + static_cast<std::uint64_t>(divisor) - 1) /
                  static_cast<std::uint64_t>(divisor)) {}

    FREQKV_INLINE constexpr int divide(int value) const {
        return static_cast<int>((static_cast<std::uint64_t>(value) * factor_) >> 32);
    }

private:
    std::uint64_t factor_ = 0;
};

/// A complex constant, cos + i sin of some angle mostly, read at once.
struct alignas(8) Factor {
    float re, im;
};

/// One pass of a mixed-radix FFT: points at distance `span`, `radix` at a time.
struct FftPass {
    int radix = 1;
    int span = 1;      ///< the product of the radices of the passes before
    int twiddles = 0;  ///< where exp(-2 pi i j q / (span radix)) begins: [radix - 1][span], q from 1
    FastDivisor by_span{1};
};

/// A complex Fourier transform of `length` points in shared memory. Decimation in time runs the passes forwards, from
/// points in digit-reversed order to natural order; decimation in frequency is its mirror.
struct FftView {
    static constexpr int max_passes = 12;

    int length = 1;
    int passes = 1;
    bool takes_gaps = false;  ///< all spans are multiples of 16, but the first, whose radix divides 16
    FftPass pass[max_passes];
    const Factor* twiddles = nullptr;
};

/// The DCT-II of `length` rows through an FFT of as many complex points (Makhoul 1980). Two real columns ride in one
/// complex column. Where the length has a prime factor that no pass has, its Fourier transform is a convolution
/// with a chirp (Bluestein 1970), through an FFT of at least 2 length - 1 points.
struct TransformView {
    int length = 0;
    FftView fft;                             ///< of the length, or of the convolution
    const std::int32_t* rows = nullptr;      ///< [length]: the row that belongs to a slot in shared memory
    const Factor* quarter_turns = nullptr;   ///< [length / 2 + 1]: exp(-pi i k / 2 length)
    const Factor* chirp = nullptr;           ///< [length]: exp(-pi i j^2 / length); null: no convolution
    const Factor* chirp_spectrum = nullptr;  ///< [fft.length]: of the conjugate, over fft.length, by slot

    FREQKV_INLINE bool convolves() const { return chirp != nullptr; }
};

}  // namespace freqkv::cuda::detail
