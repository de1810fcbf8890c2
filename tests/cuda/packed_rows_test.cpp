// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/checked_floats.hpp"
#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/cache/convert_rows.hpp"
#include "freqkv/cuda/detail/device/packed_group.hpp"
#include "freqkv/cuda/detail/device/packed_memory.hpp"
#include "freqkv/detail/lanes/hadamard.hpp"
#include "freqkv/detail/lanes/packed_rows.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/view.hpp"
#include "naive.hpp"

// Packed rows as a device's threads write and read them, beside the host's.
namespace freqkv::cuda {
namespace {

template <class B>
class CudaPackedRows : public testing::Test {};
using BitsOfPacked = testing::Types<Packed<8>, Packed<4>, Packed<2>>;
TYPED_TEST_SUITE(CudaPackedRows, BitsOfPacked);

template <int Bits>
Packed<Bits> packed_by_one_thread(const std::vector<float>& numbers) {
    constexpr int elements = detail::PackedGroup<Bits>::elements;
    float x[elements] = {};
    for (std::size_t i = 0; i < numbers.size(); ++i) x[i] = numbers[i];
    alignas(8) std::uint8_t codes[detail::PackedGroup<Bits>::bytes];
    Packed<Bits> packed;
    detail::pack_group<Bits>(x, static_cast<int>(numbers.size()), codes, packed.scale);
    std::memcpy(packed.codes.data(), codes, sizeof(codes));
    return packed;
}

template <int Bits>
std::vector<float> unpacked_by_one_thread(const Packed<Bits>& packed, std::size_t count) {
    alignas(8) std::uint8_t codes[detail::PackedGroup<Bits>::bytes];
    std::memcpy(codes, packed.codes.data(), sizeof(codes));
    std::vector<float> numbers;
    for (int d = 0; d < detail::PackedGroup<Bits>::elements; d += 8) {
        const auto eight = detail::unpack_elements<Bits, 8>(codes, &packed.scale, d);
        const auto first = detail::unpack_elements<Bits, 4>(codes, &packed.scale, d);
        const auto last = detail::unpack_elements<Bits, 1>(codes, &packed.scale, d + 7);
        EXPECT_EQ(std::memcmp(&eight, &first, sizeof(first)), 0);
        EXPECT_EQ(eight.values[7], last.values[0]);
        numbers.insert(numbers.end(), eight.values, eight.values + 8);
    }
    numbers.resize(count);
    return numbers;
}

double squared_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    return sum;
}

TYPED_TEST(CudaPackedRows, GroupsAreTheHosts) {
    constexpr int bits = TypeParam::bits;
    naive::Random next(5);
    int different = 0;
    for (int trial = 0; trial < 1000; ++trial) {
        std::vector<float> numbers(trial % 3 == 0 ? 1 + static_cast<std::size_t>(trial) % 31 : 32);
        const double size = std::pow(10.0, trial % 5 - 1);  // below, a scale has fewer bits
        for (float& x : numbers) x = static_cast<float>(size * (next() + next() + next()));
        if (trial % 10 == 0) numbers[0] *= 8;  // an outlier
        const Packed<bits> packed = packed_by_one_thread<bits>(numbers);
        Packed<bits> of_host;
        freqkv::detail::pack_transformed(numbers.data(), static_cast<Index>(numbers.size()), &of_host);
        std::vector<float> want(numbers.size());
        freqkv::detail::unpack_transformed(&of_host, static_cast<Index>(numbers.size()), want.data());
        EXPECT_EQ(unpacked_by_one_thread(of_host, numbers.size()), want) << "the same numbers of the same bits";
        // Sums of errors in another order choose another scale where two are as good.
        const std::vector<float> have = unpacked_by_one_thread(packed, numbers.size());
        EXPECT_NEAR(squared_difference(have, numbers), squared_difference(want, numbers),
                    1e-4 * squared_difference(want, numbers) + 1e-12 * size * size);
        different += std::memcmp(&packed, &of_host, sizeof(packed)) == 0 ? 0 : 1;
        const Packed<bits> again = packed_by_one_thread<bits>(have);
        EXPECT_EQ(unpacked_by_one_thread(again, numbers.size()), have) << "what was packed is packed to the same";
    }
    EXPECT_LE(different, 5);
}

TYPED_TEST(CudaPackedRows, OfZerosAreZeros) {
    constexpr int bits = TypeParam::bits;
    const std::vector<float> zeros(32);
    const std::vector<float> have = unpacked_by_one_thread(packed_by_one_thread<bits>(zeros), 32);
    for (const float x : have) EXPECT_EQ(x, 0);
}

// Memory of one list of two heads.
template <int Bits>
struct List {
    static constexpr int first_rows = 3, packed_rows = 64, latest_rows = 70, heads = 2;

    explicit List(int dim_)
        : dim(dim_),
          groups(static_cast<int>(row_length<Packed<Bits>>(dim))),
          first(rows(first_rows, dim)),
          scales(rows(packed_rows, groups)),
          latest(rows(latest_rows, dim)),
          codes(rows(packed_rows, groups) * detail::PackedGroup<Bits>::bytes / 8) {}

    static std::size_t rows(int count, int columns) { return static_cast<std::size_t>(heads * count * columns); }

    detail::PackedEntries<Bits> entries(int from) {
        detail::PackedMemory<Bits> memory{first.data(),  reinterpret_cast<std::uint8_t*>(codes.data()),
                                          scales.data(), latest.data(),
                                          first_rows,    packed_rows,
                                          latest_rows,   dim};
        return {memory, 0, &packed, from};
    }

    int dim, groups;
    std::vector<Half> first, scales, latest;
    std::vector<std::uint64_t> codes;  // for their alignment
    std::int32_t packed = 0;
};

template <class In, class Out>
void convert_in_blocks(const detail::ConvertTask<In, Out>& task, CallOrder order) {
    constexpr int block_rows = 5;
    for (int h = 0; h < task.heads; ++h) {
        for (int first = 0; first < task.count; first += block_rows) {
            const int count = std::min(block_rows, task.count - first);
            const SerialBlock block(order);
            const CheckedFloats memory(block_rows * detail::RowBuffer{task.dim()}.row_floats(), block);
            detail::convert_rows(task, h, first, count, block, memory);
        }
    }
}

// Tokens come in, are packed where the counts say so, and become floats again.
TYPED_TEST(CudaPackedRows, ComeInAndGoOut) {
    constexpr int bits = TypeParam::bits;
    constexpr int heads = List<bits>::heads;
    for (const int dim : {1, 6, 32, 40, 64}) {
        SCOPED_TRACE(std::to_string(dim) + " dimensions");
        const int tokens = List<bits>::first_rows + List<bits>::packed_rows + 5;
        naive::Random next(9);
        std::vector<float> rows(static_cast<std::size_t>(tokens * heads * dim));
        for (float& x : rows) x = static_cast<float>(next());
        const auto view = KVView<const float>::token_major(rows.data(), heads, tokens, dim);
        std::vector<float> back;
        std::vector<float> first_back;
        for (const CallOrder order : {CallOrder::forwards, CallOrder::shuffled}) {
            List<bits> list(dim);
            list.packed = List<bits>::packed_rows;
            const std::int32_t size = 2;
            auto in =
                detail::convert_task(detail::rows_of(view, detail::plain_columns(dim)), list.entries(0), heads, tokens);
            in.size = &size;
            in.appends = true;
            convert_in_blocks(in, order);
            back.assign(rows.size(), -7);
            const auto out = KVView<float>::token_major(back.data(), heads, tokens, dim);
            convert_in_blocks(detail::convert_task(list.entries(size), detail::rows_of(out, detail::plain_columns(dim)),
                                                   heads, tokens),
                              order);
            if (order == CallOrder::forwards) {
                first_back = back;
            } else {
                EXPECT_EQ(back, first_back) << "the order of threads changes nothing";
            }
        }
        std::vector<float> want(static_cast<std::size_t>(dim));
        for (int h = 0; h < heads; ++h) {
            for (int t = 0; t < tokens; ++t) {
                for (int d = 0; d < dim; ++d) want[static_cast<std::size_t>(d)] = view.head(h)(t, d);
                const int entry = 2 + t;
                const bool is_packed =
                    entry >= List<bits>::first_rows && entry < List<bits>::first_rows + List<bits>::packed_rows;
                if (is_packed) {
                    std::vector<Packed<bits>> packed(static_cast<std::size_t>(row_length<Packed<bits>>(dim)));
                    freqkv::detail::pack_row(want.data(), dim, packed.data());
                    freqkv::detail::unpack_row(packed.data(), dim, want.data());
                } else {
                    freqkv::detail::hadamard(want.data(), dim);
                    for (float& x : want) x = static_cast<float>(Half(x));
                    freqkv::detail::hadamard(want.data(), dim);
                }
                for (int d = 0; d < dim; ++d) {
                    ASSERT_FLOAT_EQ(back[static_cast<std::size_t>((t * heads + h) * dim + d)],
                                    want[static_cast<std::size_t>(d)])
                        << "entry " << entry << " of head " << h;
                }
            }
        }
    }
}

TYPED_TEST(CudaPackedRows, AreDroppedWhereThereIsNoMemory) {
    constexpr int bits = TypeParam::bits;
    List<bits> list(8);
    const std::int32_t size = List<bits>::first_rows + List<bits>::latest_rows - 1;
    const std::vector<float> rows(std::size_t{3} * 2 * 8, 1);
    const auto view = KVView<const float>::token_major(rows.data(), 2, 3, 8);
    auto in = detail::convert_task(detail::rows_of(view, detail::plain_columns(8)), list.entries(0), 2, 3);
    in.size = &size;
    in.appends = true;
    convert_in_blocks(in, CallOrder::forwards);
    const detail::PackedHead<bits> head = list.entries(0).of_head(1).entries;
    EXPECT_TRUE(head.holds(size));
    EXPECT_FALSE(head.holds(size + 1));
    EXPECT_EQ(head.row(size + 1).exact, head.row(size).exact);
    EXPECT_EQ(list.latest.back().bits, 0) << "of a row of ones, all but the first number of its transform";
    EXPECT_EQ(head.row(size - 1).exact[0].bits, 0) << "nothing else has been written";
}

}  // namespace
}  // namespace freqkv::cuda
