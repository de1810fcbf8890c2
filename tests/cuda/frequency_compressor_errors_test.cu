// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "device_limits.cuh"
#include "device_tests.cuh"
#include "freqkv/cuda/dct_plan.cuh"
#include "freqkv/cuda/frequency_compressor.cuh"

namespace freqkv::cuda::compressor_test {
namespace {

TEST(DeviceCompressorErrors, PlansNameWhatIsWrong) {
    EXPECT_EQ(message_of([] { DctPlan(0); }), "freqkv: n is 0, must be 1 to 16384 on a device");
    EXPECT_EQ(message_of([] { DctPlan(16385); }), "freqkv: n is 16385, must be 1 to 16384 on a device");
    EXPECT_EQ(message_of([] { FrequencyCompressor(0, 0); }), "freqkv: n is 0, must be 1 to 16384 on a device");
    EXPECT_EQ(message_of([] { FrequencyCompressor(4, 0); }), "freqkv: kept is 0, must be 1 to n, which is 4");
    EXPECT_EQ(message_of([] { FrequencyCompressor(4, 5); }), "freqkv: kept is 5, must be 1 to n, which is 4");
    EXPECT_EQ(message_of([] { FrequencyCompressor(DctPlan(4), DctPlan(5)); }),
              "freqkv: kept is 5, must be 1 to n, which is 4");

    const DctPlan plan(4);
    Tensor<float> four(1, 4, 2), five(1, 5, 2), wide(1, 4, 3);
    four.fill(1);
    const auto matrix = [](const Tensor<float>& tensor) { return tensor.view().head(0); };
    const auto forward = [&](const MatrixView<float>& in, const MatrixView<float>& out) {
        return message_of([&] { plan.forward(in, out); });
    };
    const auto inverse = [&](const MatrixView<float>& in, const MatrixView<float>& out) {
        return message_of([&] { plan.inverse(in, out); });
    };
    EXPECT_EQ(forward(matrix(five), matrix(four)), "freqkv: in.rows is 5, must be the plan's size");
    EXPECT_EQ(forward(matrix(four), matrix(five)), "freqkv: out.rows is 5, must be 1 to the plan's size");
    EXPECT_EQ(forward(matrix(four), matrix(four).middle_rows(0, 0)),
              "freqkv: out.rows is 0, must be 1 to the plan's size");
    EXPECT_EQ(forward(matrix(wide), matrix(four)), "freqkv: out.columns is 2, must equal in.columns");
    EXPECT_EQ(forward({nullptr, 4, 2}, matrix(four)), "freqkv: data of in is 0, must not be null");
    EXPECT_EQ(forward({matrix(five).data + 2, 4, 2}, matrix(five).middle_rows(0, 4)),
              "freqkv: overlap is in with out, must not be, unless both begin at the same element with the same "
              "strides");
    EXPECT_EQ(inverse(matrix(five), matrix(four)), "freqkv: in.rows is 5, must be 1 to the plan's size");
    EXPECT_EQ(inverse(matrix(four), matrix(five)), "freqkv: out.rows is 5, must be the plan's size");
    Tensor<float> before(1, 4, 2);
    before.fill(1);
    four.download();
    EXPECT_TRUE(four.same_bits(before));
    EXPECT_EQ(forward(matrix(four), matrix(four)), "accepted");
}

TEST(DeviceCompressorErrors, NameWhatIsWrongWithAViewAndLaunchNothing) {
    const FrequencyCompressor compressor(60, 30);
    Tensor<float> input(2, 60, 8);
    Tensor<float> output(2, 30, 8);
    Tensor<float> before(2, 30, 8);
    input.fill(1);
    output.fill(2);
    before.fill(2);
    const auto message = [&](const KVView<const float>& in, const KVView<float>& out) {
        const std::string result = message_of([&] { compressor.forward(in, out); });
        output.download();
        if (result != "accepted") EXPECT_TRUE(output.same_bits(before)) << result;
        return result;
    };
    using In = KVView<const float>;
    using Out = KVView<float>;
    const In in = input.view();
    const Out out = output.view();

    EXPECT_EQ(message(with(in, &In::data, nullptr), out), "freqkv: data of in is 0, must not be null");
    EXPECT_EQ(message(in, with(out, &Out::data, nullptr)), "freqkv: data of out is 0, must not be null");
    const auto odd = reinterpret_cast<const float*>(reinterpret_cast<const char*>(in.data) + 2);
    EXPECT_THAT(message(with(in, &In::data, odd), out),
                testing::AllOf(testing::StartsWith("freqkv: address of in is "),
                               testing::EndsWith(", must be a multiple of the element's size, 4")));
    EXPECT_EQ(message(with(in, &In::heads, 0), out), "freqkv: heads of in is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(message(in, with(out, &Out::heads, Index{1} << 31)),
              "freqkv: heads of out is 2147483648, must be 1 to 2^31 - 1");
    EXPECT_EQ(message(with(in, &In::tokens, -60), out), "freqkv: tokens of in is -60, must be 1 to 2^31 - 1");
    EXPECT_EQ(message(in, with(out, &Out::head_dim, 0)), "freqkv: head_dim of out is 0, must be 1 to 2^20");
    EXPECT_EQ(message(with(in, &In::head_dim, (Index{1} << 20) + 1), out),
              "freqkv: head_dim of in is 1048577, must be 1 to 2^20");
    EXPECT_EQ(message(with(in, &In::token_stride, Index{1} << 40), out),
              "freqkv: a stride of in is 1099511627776, must be within 2^40");
    EXPECT_EQ(message(with(with(in, &In::heads, Index{1} << 20), &In::head_stride, Index{1} << 39), out),
              "freqkv: extent of in is 576460202547609600, must be below 2^58 elements");
    EXPECT_EQ(message(with(in, &In::head_stride, 0), out),
              "freqkv: strides of in is 0, 8, 1, must give every element of [2, 60, 8] a place of its own");
    EXPECT_EQ(message(in, with(out, &Out::token_stride, -7)),
              "freqkv: strides of out is 240, -7, 1, must give every element of [2, 30, 8] a place of its own");

    EXPECT_EQ(message(in.middle_tokens(0, 59), out),
              "freqkv: in.tokens is 59, must be the number of rows the compressor reads");
    EXPECT_EQ(message(in, out.middle_tokens(0, 29)),
              "freqkv: out.tokens is 29, must be the number of rows the compressor writes");
    EXPECT_EQ(message(in, with(out, &Out::heads, 1)), "freqkv: out.heads is 1, must equal in.heads");
    EXPECT_EQ(message(with(in, &In::head_dim, 7), out), "freqkv: out.head_dim is 8, must equal in.head_dim");
    EXPECT_EQ(message_of([&] { compressor.adjoint(in, out); }),
              "freqkv: in.tokens is 60, must be the number of rows the compressor reads");

    const std::string overlap =
        "freqkv: overlap is in with out, must not be, unless both begin at the same element with the same strides";
    const Out all = input.view();
    EXPECT_EQ(message(all, all.middle_tokens(1, 30)), overlap);
    EXPECT_EQ(message(all, with(all.middle_tokens(0, 30), &Out::head_stride, 240)), overlap);
    EXPECT_EQ(message_of([&] { compressor.adjoint(all.middle_tokens(1, 30), all); }), overlap);

    const Compression<float> no_compressor{nullptr, in, out};
    EXPECT_EQ(message_of([&] { compress<float>(std::span(&no_compressor, 1)); }),
              "freqkv: compressor is 0, must not be null");
    const Compression<float> twice[]{{&compressor, in, out}, {&compressor, in, out}};
    EXPECT_EQ(message_of([&] { compress<float>(twice); }),
              "freqkv: overlap is out with out, must not be: one call works on both at the same time");
    const Compression<float> in_turn[]{{&compressor, all, all.middle_tokens(0, 30)}, {&compressor, all, out}};
    EXPECT_THAT(message_of([&] { compress<float>(in_turn); }),
                testing::EndsWith("must not be: one call works on both at the same time"));
    // Reading the same twice is no conflict.
    Tensor<float> another(2, 30, 8);
    const Compression<float> readers[]{{&compressor, in, out}, {&compressor, in, another.view()}};
    Tensor<float> same_input(2, 60, 8);
    same_input.fill(1);
    input.download();
    EXPECT_TRUE(input.same_bits(same_input)) << "a refused call wrote to its input";
    EXPECT_EQ(message_of([&] { compress<float>(readers); }), "accepted");
    output.download();
    another.download();
    EXPECT_TRUE(output.bits() == another.bits());
}

TEST(DeviceCompressorErrors, SayThatMemoryIsOfTheHost) {
    if (reaches_all_memory()) GTEST_SKIP() << "this device reaches all memory";
    Tensor<float> tensor(2, 60, 8);
    tensor.fill(1);
    std::vector<float> host(2 * 60 * 8);
    const FrequencyCompressor compressor(60, 30);
    const KVView<float> view = tensor.view();
    const std::string rest = " is in host memory, must be on the device, managed or allocated by cudaMallocHost";
    EXPECT_EQ(message_of([&] { compressor.forward(KVView<float>(host.data(), 2, 60, 8), view.middle_tokens(0, 30)); }),
              "freqkv: data of in" + rest);
    EXPECT_EQ(message_of([&] { compressor.forward(view, KVView<float>(host.data(), 2, 30, 8)); }),
              "freqkv: data of out" + rest);
    EXPECT_EQ(message_of([&] { compressor.adjoint(view.middle_tokens(0, 30), KVView<float>(host.data(), 2, 60, 8)); }),
              "freqkv: data of out" + rest);
    EXPECT_EQ(message_of(
                  [&] { DctPlan(60).forward(MatrixView<float>(host.data(), 60, 8), view.head(0).middle_rows(0, 30)); }),
              "freqkv: data of in" + rest);
}

TEST(DeviceCompressorErrors, SayThatALengthIsTooLargeForTheDevice) {
    const Index n = 16381;  // the largest prime below 2^14: a convolution of 32768 points
    if (fits_device(n)) GTEST_SKIP() << "this device has shared memory for every length";
    EXPECT_EQ(message_of([&] { DctPlan{n}; }),
              "freqkv: n is 16381, too large for the device's shared memory: 32768 points of 8.5 bytes");
    EXPECT_THAT([&] { FrequencyCompressor(n, 2); }, refuses("too large for the device"));
    EXPECT_EQ(DctPlan(16).size(), 16);
}

TEST(DeviceCompressorErrors, OfTheRuntimeNameTheCallAndTheReasonAndDoNotStay) {
    try {
        DeviceArray<float> array(Index{1} << 50);
        FAIL() << "no device has that much memory";
    } catch (const CudaError& error) {
        EXPECT_STREQ(error.what(), "freqkv: cudaMalloc failed: out of memory (cudaErrorMemoryAllocation)");
        EXPECT_EQ(error.status(), cudaErrorMemoryAllocation);
    }
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
    const std::vector<float> values{1, 2, 3};
    EXPECT_EQ(DeviceArray<float>(values).download(), values);
    EXPECT_THAT([] { DeviceArray<float>(Index{1} << 62); }, refuses("device array size in bytes is over 2^63"));
    EXPECT_THAT([] { DeviceArray<float>(Index{-1}); }, refuses("device array size in bytes is -1"));
    EXPECT_EQ(DeviceArray<float>().download(), std::vector<float>());
}

}  // namespace
}  // namespace freqkv::cuda::compressor_test
