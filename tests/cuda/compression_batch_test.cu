// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/compressor_cases.cuh"
#include "device_tests.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/cuda/frequency_compressor.cuh"
#include "freqkv/energy.hpp"
#include "naive.hpp"

namespace freqkv::cuda::compressor_test {
namespace {

TYPED_TEST_SUITE(DeviceCompressor, ElementTypes, ElementNames);

// ---------------------------------------------------------------------------------------------------
// Many at once.

// Compressions of different views, each with a result of its own.
template <class T>
class CompressionBatch {
public:
    void add(Index n, Index kept, Index heads, Index dim, Layout layout) {
        const Compressed& made = made_.emplace_back(std::make_unique<FrequencyCompressor>(n, kept),
                                                    std::make_unique<Tensor<T>>(heads, n, dim, layout),
                                                    std::make_unique<Tensor<T>>(heads, kept, dim, layout));
        made.in->fill(made_.size());
    }

    std::vector<Compression<T>> compressions() const {
        std::vector<Compression<T>> batch;
        for (const Compressed& c : made_) batch.push_back({c.compressor.get(), c.in->view(), c.out->view()});
        return batch;
    }

    // f(compressor, in, out) for each.
    template <class F>
    void each(const F& f) const {
        for (const Compressed& c : made_) {
            SCOPED_TRACE(std::to_string(c.compressor->size()) + " to " + std::to_string(c.compressor->kept()));
            c.out->download();
            f(*c.compressor, *c.in, *c.out);
        }
    }

private:
    struct Compressed {
        std::unique_ptr<FrequencyCompressor> compressor;
        std::unique_ptr<Tensor<T>> in, out;
    };
    std::deque<Compressed> made_;
};

template <class T>
void add_all_kinds(CompressionBatch<T>& batch) {
    batch.add(60, 30, 2, 20, Layout::dense);
    batch.add(2, 1, 5, 3, Layout::token_major);
    batch.add(62, 31, 2, 20, Layout::token_major);
    batch.add(128, 64, 1, 80, Layout::token_major);
    batch.add(37, 18, 3, 7, Layout::transposed);
    batch.add(64, 48, 3, 1, Layout::every_second);
    batch.add(99, 98, 1, 128, Layout::backwards);
    batch.add(1024, 1024, 2, 6, Layout::dims_first);
    batch.add(1, 1, 1, 2, Layout::dense);
    batch.add(4096, 2048, 1, 4, Layout::dense);
    batch.add(1021, 500, 1, 5, Layout::mirrored);
}

TYPED_TEST(DeviceCompressor, BatchesGiveTheBitsOfSingleCalls) {
    using T = TypeParam;
    for (const int columns_per_block : {0, 1, 4, 16}) {
        CompressionBatch<T> batch;
        add_all_kinds(batch);
        detail::compress_batch<T>(batch.compressions(), nullptr, columns_per_block, nullptr);
        batch.each([&](const FrequencyCompressor& compressor, const Tensor<T>& in, const Tensor<T>& out) {
            EXPECT_TRUE(out.bits() == this->forward(compressor, in));
            out.expect_rest_untouched();
        });
    }
}

TYPED_TEST(DeviceCompressor, BatchesLargerThanTheParametersOfOneLaunch) {
    using T = TypeParam;
    constexpr Index n = 20, kept = 10, dim = 4;
    constexpr Index heads = 2 * detail::Batch<detail::ResampleTask<T>>::most_tasks + 3;
    const FrequencyCompressor compressor(n, kept);
    Tensor<T> in(heads, n, dim);
    in.fill(31);
    Tensor<T> out(heads, kept, dim);
    const KVView<T> from = in.view();
    const KVView<T> to = out.view();
    std::vector<Compression<T>> batch;
    for (Index h = 0; h < heads; ++h) {
        batch.push_back({&compressor, KVView<const T>(from.data + h * from.head_stride, 1, n, dim),
                         KVView<T>(to.data + h * to.head_stride, 1, kept, dim)});
    }
    EnergyReport of_batch;
    compress<T>(batch, of_batch);
    out.download();
    EXPECT_TRUE(out.bits() == this->forward(compressor, in));
    EnergyReport of_heads;
    compressor.forward(in.view(), out.view(), of_heads);
    EXPECT_EQ(of_batch.read().size(), static_cast<std::size_t>(heads));
    EXPECT_THAT(of_batch.read(), testing::ElementsAreArray(of_heads.read()));
}

TYPED_TEST(DeviceCompressor, EmptyBatchIsNothingToDo) {
    using T = TypeParam;
    compress<T>(std::span<const Compression<T>>());
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// ---------------------------------------------------------------------------------------------------
// To the last bit.

TYPED_TEST(DeviceCompressor, TwoRunsGiveTheSameBits) {
    using T = TypeParam;
    for (const auto& [n, kept] : {std::pair<Index, Index>{62, 31}, {1021, 510}, {4096, 2048}}) {
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> in(4, n, 80, Layout::token_major);
        in.fill(40);
        Tensor<T> first(4, kept, 80);
        EnergyReport first_report;
        compressor.forward(in.view(), first.view(), first_report);
        first.download();
        const std::vector<Energy> energies = first_report.read();
        for (int repeat = 0; repeat < 5; ++repeat) {
            Tensor<T> again(4, kept, 80);
            EnergyReport report;
            compressor.forward(in.view(), again.view(), report);
            again.download();
            EXPECT_TRUE(again.bits() == first.bits()) << n;
            EXPECT_EQ(report.read(), energies) << n;
        }
    }
}

// The kernel is the same, and no column knows which others share its block. Energies are added up block by block.
TYPED_TEST(DeviceCompressor, ColumnsPerBlockDoNotChangeABit) {
    using T = TypeParam;
    for (const auto& [n, kept] : {std::pair<Index, Index>{60, 45}, {62, 31}, {37, 18}, {1024, 512}, {4096, 2048}}) {
        const FrequencyCompressor compressor(n, kept);
        for (const Index dim : {7, 80}) {
            Tensor<T> in(2, n, dim);
            in.fill(41);
            const Bits expected = this->forward(compressor, in);
            EnergyReport report;
            Tensor<T> out(2, kept, dim);
            const Compression<T> one{&compressor, in.view(), out.view()};
            compress<T>(std::span(&one, 1), report);
            const std::vector<Energy> energies = report.read();
            for (const int columns : {1, 2, 4, 8, 16}) {
                SCOPED_TRACE(std::to_string(n) + " rows, " + std::to_string(columns) + " columns");
                out.fill(42);
                detail::compress_batch<T>(std::span(&one, 1), &report, columns, nullptr);
                out.download();
                EXPECT_TRUE(out.bits() == expected);
                const std::vector<Energy> same = report.read();
                ASSERT_EQ(same.size(), energies.size());
                for (std::size_t h = 0; h < same.size(); ++h) {
                    EXPECT_NEAR(same[h].total, energies[h].total, 1e-12 * energies[h].total);
                    EXPECT_NEAR(same[h].discarded, energies[h].discarded, 1e-12 * energies[h].total);
                }
            }
        }
    }
}

TYPED_TEST(DeviceCompressor, AGraphGivesTheSameBitsAgainAndAgain) {
    using T = TypeParam;
    const Stream stream;
    for (const auto& [n, kept] : {std::pair<Index, Index>{60, 30}, {62, 31}, {1021, 510}}) {
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> in(2, n, 20);
        Tensor<T> out(2, kept, 20);
        Tensor<T> back(2, n, 20);
        in.fill(43);
        EnergyReport report;
        compressor.forward(in.view(), out.view(), report, stream);  // makes room in the report
        stream.wait();
        const Graph graph(stream, [&] {
            compressor.forward(in.view(), out.view(), report, stream);
            compressor.adjoint(out.view(), back.view(), stream);
        });
        for (const std::uint64_t seed : {43, 44, 43}) {
            in.fill(seed);
            out.fill(45);
            graph.launch(stream);
            out.download(stream);
            back.download(stream);
            const std::vector<Energy> energies = report.read(stream);

            Tensor<T> expected(2, kept, 20);
            Tensor<T> expected_back(2, n, 20);
            EnergyReport expected_report;
            compressor.forward(in.view(), expected.view(), expected_report);
            compressor.adjoint(expected.view(), expected_back.view());
            expected.download();
            expected_back.download();
            EXPECT_TRUE(out.bits() == expected.bits()) << n;
            EXPECT_TRUE(back.bits() == expected_back.bits()) << n;
            EXPECT_EQ(energies, expected_report.read()) << n;
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Energies.

TYPED_TEST(DeviceCompressor, EnergyIsWhatTheDroppedFrequenciesHold) {
    using T = TypeParam;
    constexpr Index heads = 3;
    EnergyReport report;
    EXPECT_THAT(report.read(), testing::IsEmpty());
    for (const Index dim : {1, 3, 37}) {
        for (const auto& [n, kept] :
             {std::pair<Index, Index>{2, 1}, {31, 15}, {64, 16}, {100, 99}, {97, 40}, {60, 60}}) {
            SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept) + ", " + std::to_string(dim));
            const FrequencyCompressor compressor(n, kept);
            Tensor<T> in(heads, n, dim);
            in.fill(27);
            Tensor<T> out(heads, kept, dim);
            compressor.forward(in.view(), out.view(), report);
            out.download();
            EXPECT_TRUE(out.bits() == this->forward(compressor, in)) << "measuring changes the result";
            const std::vector<Energy> energies = report.read();
            ASSERT_EQ(energies.size(), static_cast<std::size_t>(heads)) << "energies of the call before are left";
            for (Index h = 0; h < heads; ++h) {
                const naive::Rows transform = naive::dct(in.rows(h));
                const double total = naive::energy(transform, 0, transform.size());
                const double discarded = naive::energy(transform, static_cast<std::size_t>(kept), transform.size());
                const Energy& energy = energies[static_cast<std::size_t>(h)];
                EXPECT_NEAR(energy.total, total, 1e-6 * total);
                EXPECT_NEAR(energy.discarded, discarded, 1e-6 * total);
                if (kept == n) EXPECT_EQ(energy.discarded, 0);
            }
        }
    }
}

TYPED_TEST(DeviceCompressor, EnergiesComeInTheOrderOfTheBatch) {
    using T = TypeParam;
    CompressionBatch<T> batch;
    add_all_kinds(batch);
    EnergyReport report;
    compress<T>(batch.compressions(), report);
    const std::vector<Energy> energies = report.read();
    std::size_t i = 0;
    batch.each([&](const FrequencyCompressor&, const Tensor<T>& in, const Tensor<T>&) {
        for (Index h = 0; h < in.heads(); ++h) {
            ASSERT_LT(i, energies.size());
            const naive::Rows rows = in.rows(h);
            const double total = naive::energy(rows, 0, rows.size());
            EXPECT_NEAR(energies[i++].total, total, 1e-6 * total);
        }
    });
    EXPECT_EQ(i, energies.size());
}

}  // namespace
}  // namespace freqkv::cuda::compressor_test
