// SPDX-License-Identifier: MIT
#include "freqkv/cuda/frequency_compressor.cuh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "device_limits.cuh"
#include "device_tests.cuh"
#include "freqkv/cuda/dct_plan.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/energy.hpp"
#include "kernels.cuh"
#include "naive.hpp"

namespace freqkv::cuda {
namespace {

// Of what happens in float between reading and writing, relative to the largest element.
constexpr double tolerance = 2e-6;

using Bits = std::vector<std::uint32_t>;

// Lengths as (n, kept) of each kind: a power of two, other factors, one of 31, for which threads carry one column
// instead of two, and convolutions; halved and not.
constexpr std::array<std::pair<Index, Index>, 6> typical_lengths{
    {{64, 32}, {60, 30}, {60, 45}, {62, 31}, {37, 18}, {41, 40}}};

template <class T>
class DeviceCompressor : public testing::Test {
protected:
    static naive::Rows low_passed(const Entries<T>& x, Index head, Index kept) {
        return naive::low_passed(x.rows(head), static_cast<std::size_t>(kept));
    }

    // The bits that a call of its own gives.
    static Bits forward(const FrequencyCompressor& compressor, const Tensor<T>& in) {
        Tensor<T> out(in.heads(), compressor.kept(), in.dim());
        compressor.forward(in.view(), out.view());
        out.download();
        return out.bits();
    }
};
TYPED_TEST_SUITE(DeviceCompressor, ElementTypes, ElementNames);

// ---------------------------------------------------------------------------------------------------
// The definition, over all kinds of lengths.

// Equations 6 to 8 as sums over tables of cosines in double, for three columns. All coefficients are made once, rows of
// a compression one by one.
class Definition {
public:
    using Three = std::array<double, 3>;

    explicit Definition(const std::vector<Three>& x) : n_(static_cast<Index>(x.size())) {
        const std::vector<double> cosines = cosines_of(n_);
        for (Index k = 0; k < n_; ++k) {
            const double factor = std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(n_));
            Three sum{};
            Index turn = k;  // (2 i + 1) k in quarters of the n-th part of a turn
            for (const Three& row : x) {
                const double weight = factor * cosines[static_cast<std::size_t>(turn)];
                for (std::size_t c = 0; c < 3; ++c) sum[c] += weight * row[c];
                turn = (turn + 2 * k) % (4 * n_);
            }
            transform_.push_back(sum);
        }
    }

    // Rows `wanted` of the compression to `kept`.
    std::vector<Three> rows(Index kept, const std::vector<Index>& wanted) const {
        const std::vector<double> cosines = cosines_of(kept);
        const double scale = std::sqrt(static_cast<double>(kept) / static_cast<double>(n_));
        std::vector<Three> result;
        for (const Index i : wanted) {
            Three sum{};
            Index turn = 0;
            for (Index k = 0; k < kept; ++k) {
                const double factor = scale * std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(kept));
                const double weight = factor * cosines[static_cast<std::size_t>(turn)];
                for (std::size_t c = 0; c < 3; ++c) sum[c] += weight * transform_[static_cast<std::size_t>(k)][c];
                turn = (turn + 2 * i + 1) % (4 * kept);
            }
            result.push_back(sum);
        }
        return result;
    }

private:
    static std::vector<double> cosines_of(Index n) {
        std::vector<double> cosines;
        for (Index turn = 0; turn < 4 * n; ++turn) {
            cosines.push_back(std::cos(std::numbers::pi * static_cast<double>(turn) / static_cast<double>(2 * n)));
        }
        return cosines;
    }

    Index n_;
    std::vector<Three> transform_;
};

// All rows of a short result; of a long one the first, the last, and some between.
std::vector<Index> looked_at(Index rows) {
    std::vector<Index> result;
    for (Index i = 0; i < rows; i += std::max<Index>(1, rows / 64)) result.push_back(i);
    if (result.back() != rows - 1) result.push_back(rows - 1);
    return result;
}

template <class T>
void expect_the_definition(Index n) {
    constexpr Index heads = 2, dim = 20;
    const auto column = [](Index h, Index d) { return static_cast<std::size_t>((h * dim + d) % 3); };
    naive::Random next(static_cast<std::uint64_t>(n));
    std::vector<Definition::Three> x(static_cast<std::size_t>(n));
    for (Definition::Three& row : x) row = {stored<T>(next()), stored<T>(next()), stored<T>(next())};
    const Definition definition(x);
    Tensor<T> in(heads, n, dim, Layout::token_major);
    in.fill_with([&](Index h, Index t, Index d) { return x[static_cast<std::size_t>(t)][column(h, d)]; });

    std::vector<Index> swept{1, n / 2, n - 1, n};
    swept.erase(std::unique(swept.begin(), swept.end()), swept.end());
    for (const Index kept : swept) {
        SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept));
        if (!fits_device(n) || !fits_device(kept)) {
            EXPECT_THAT([&] { FrequencyCompressor(n, kept); }, refuses("too large for the device"));
            continue;
        }
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> out(heads, kept, dim, Layout::token_major);
        compressor.forward(in.view(), out.view());
        out.download();
        const std::vector<Index> wanted = looked_at(kept);
        const std::vector<Definition::Three> rows = definition.rows(kept, wanted);
        naive::Rows result, expected;
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            for (Index h = 0; h < heads; ++h) {
                result.push_back(out.row(h, wanted[i]));
                expected.emplace_back();
                for (Index d = 0; d < dim; ++d) expected.back().push_back(rows[i][column(h, d)]);
            }
        }
        EXPECT_LT(largest_error<T>(result, expected), tolerance);
        out.expect_rest_untouched();
    }
}

TYPED_TEST(DeviceCompressor, IsTheDefinitionAtAllShortLengths) {
    for (Index n = 2; n <= 130; ++n) expect_the_definition<TypeParam>(n);
}

TYPED_TEST(DeviceCompressor, IsTheDefinitionAtLongLengthsAndPrimes) {
    for (const Index n : {255,  256,  257,  509,  512,  1000, 1021, 1023, 1024, 2039, 2046, 2047,
                          2048, 4091, 4092, 4093, 4096, 5000, 6561, 7919, 8188, 8191, 8192}) {
        expect_the_definition<TypeParam>(n);
    }
}

TYPED_TEST(DeviceCompressor, ConstantsKeepTheirValue) {
    using T = TypeParam;
    for (const auto& [n, kept] :
         {std::pair<Index, Index>{2, 1}, {7, 3}, {60, 30}, {60, 59}, {37, 36}, {4092, 2046}, {4096, 2048}}) {
        Tensor<T> in(1, n, 6);
        in.fill_with([](Index, Index, Index d) { return static_cast<double>(d + 1) / 3; });
        Tensor<T> out(1, kept, 6);
        FrequencyCompressor(n, kept).forward(in.view(), out.view());
        out.download();
        for (Index t = 0; t < kept; ++t) {
            for (std::size_t d = 0; d < 6; ++d) {
                const double value = in.row(0, 0)[d];
                // 16 bits hold exactly what they held.
                const double allowed = std::is_same_v<T, float> ? 6e-7 * value : 0;
                ASSERT_NEAR(out.row(0, t)[d], value, allowed) << n << " to " << kept << ", entry " << t;
            }
        }
    }
}

// Rounding y by r changes <y, z> by at most r |y| |z|.
TYPED_TEST(DeviceCompressor, AdjointIsTheTranspose) {
    using T = TypeParam;
    constexpr Index heads = 2, dim = 9;
    for (const auto& [n, kept] :
         {std::pair<Index, Index>{1, 1}, {2, 1}, {64, 32}, {60, 59}, {62, 31}, {37, 18}, {1000, 250}, {4093, 2046}}) {
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> x(heads, n, dim);
        Tensor<T> z(heads, kept, dim);
        x.fill(24);
        z.fill(25);
        Tensor<T> cx(heads, kept, dim);
        Tensor<T> ctz(heads, n, dim);
        compressor.forward(x.view(), cx.view());
        compressor.adjoint(z.view(), ctz.view());
        cx.download();
        ctz.download();
        for (Index h = 0; h < heads; ++h) {
            const auto product = [h](const Tensor<T>& a, const Tensor<T>& b) {
                double sum = 0;
                for (Index t = 0; t < a.tokens(); ++t) sum += naive::dot(a.row(h, t), b.row(h, t));
                return sum;
            };
            const auto norm = [&](const Tensor<T>& a) { return std::sqrt(product(a, a)); };
            EXPECT_NEAR(product(cx, z), product(x, ctz),
                        (rounding<T> + tolerance) * (norm(cx) * norm(z) + norm(x) * norm(ctz)))
                << n << " to " << kept;
        }
    }
}

// The transform by itself, in all element types; cuda_host_dct_plan_test has the host's tests of it in float.
TYPED_TEST(DeviceCompressor, PlansTransformAllElementTypes) {
    using T = TypeParam;
    constexpr Index columns = 11;
    for (const auto& [n, kept] : typical_lengths) {
        Tensor<T> x(1, n, columns, Layout::transposed);
        Tensor<T> y(1, kept, columns, Layout::backwards);
        Tensor<T> back(1, n, columns, Layout::token_major);
        const auto matrix = [](const Tensor<T>& tensor) { return tensor.view().head(0); };
        x.fill(5);
        const DctPlan plan(n);
        EXPECT_EQ(plan.size(), n);
        plan.forward(matrix(x), matrix(y));
        plan.inverse(matrix(y), matrix(back));
        y.download();
        back.download();
        naive::Rows transform = naive::dct(x.rows(0));
        transform.resize(static_cast<std::size_t>(kept));
        EXPECT_LT(largest_error<T>(y.rows(0), transform), tolerance) << n;
        naive::Rows coefficients = y.rows(0);
        coefficients.resize(static_cast<std::size_t>(n), naive::Row(columns));
        EXPECT_LT(largest_error<T>(back.rows(0), naive::inverse_dct(coefficients)), tolerance) << n;
        y.expect_rest_untouched();
        back.expect_rest_untouched();
    }
}

// ---------------------------------------------------------------------------------------------------
// Any view.

TYPED_TEST(DeviceCompressor, AnyHeadDimAndStrides) {
    using T = TypeParam;
    constexpr Index heads = 3;
    for (const auto& [n, kept] : typical_lengths) {
        const FrequencyCompressor compressor(n, kept);
        for (const Index dim : {1, 3, 5, 7, 80, 128}) {
            Tensor<T> dense(heads, n, dim);
            dense.fill(static_cast<std::uint64_t>(dim));
            const Bits expected = this->forward(compressor, dense);
            for (const Layout layout : all_layouts) {
                SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept) + ", " + std::to_string(dim) +
                             " dimensions, " + name_of(layout));
                Tensor<T> in(heads, n, dim, layout);
                Tensor<T> out(heads, kept, dim, layout);
                in.fill(static_cast<std::uint64_t>(dim));
                compressor.forward(in.view(), out.view());
                out.download();
                for (Index h = 0; h < heads; ++h) {
                    EXPECT_LT(largest_error<T>(out.rows(h), this->low_passed(in, h, kept)), tolerance);
                }
                EXPECT_TRUE(out.bits() == expected) << "bits depend on the layout";
                ASSERT_NO_FATAL_FAILURE(out.expect_rest_untouched());

                Tensor<T> adjoint(heads, n, dim, layout);
                compressor.adjoint(out.view(), adjoint.view());
                adjoint.download();
                ASSERT_NO_FATAL_FAILURE(adjoint.expect_rest_untouched());

                // In place.
                const KVView<T> all = in.view();
                const KVView<T> first = all.middle_tokens(0, kept);
                compressor.forward(all, first);
                in.download();
                EXPECT_TRUE(in.bits(0, kept) == out.bits()) << "in place";
                compressor.adjoint(first, all);
                in.download();
                EXPECT_TRUE(in.bits() == adjoint.bits()) << "the adjoint in place";
                ASSERT_NO_FATAL_FAILURE(in.expect_rest_untouched());
            }
        }
    }
}

TYPED_TEST(DeviceCompressor, LayoutsMayDiffer) {
    using T = TypeParam;
    const FrequencyCompressor compressor(60, 30);
    for (const Layout from : all_layouts) {
        for (const Layout to : all_layouts) {
            Tensor<T> in(2, 60, 16, from);
            Tensor<T> out(2, 30, 16, to);
            in.fill(6);
            compressor.forward(in.view(), out.view());
            out.download();
            for (Index h = 0; h < 2; ++h) {
                EXPECT_LT(largest_error<T>(out.rows(h), this->low_passed(in, h, 30)), tolerance)
                    << name_of(from) << " to " << name_of(to);
            }
            ASSERT_NO_FATAL_FAILURE(out.expect_rest_untouched());
        }
    }
}

// Complex columns of two dimensions do not mix.
TYPED_TEST(DeviceCompressor, NotANumberStaysInItsPairOfDimensions) {
    using T = TypeParam;
    for (const auto& [n, kept] : typical_lengths) {
        Tensor<T> in(2, n, 12);
        in.fill(15);
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> clean(2, kept, 12);
        compressor.forward(in.view(), clean.view());
        clean.download();
        in.set(1, 3, 4, std::nan(""));
        in.upload();
        Tensor<T> out(2, kept, 12);
        compressor.forward(in.view(), out.view());
        out.download();
        for (Index t = 0; t < kept; ++t) {
            EXPECT_EQ(out.row(0, t), clean.row(0, t));
            for (std::size_t d = 0; d < 12; ++d) {
                if (d == 4) {
                    EXPECT_TRUE(std::isnan(out.row(1, t)[d]));
                } else if (d != 5) {
                    EXPECT_EQ(out.row(1, t)[d], clean.row(1, t)[d]) << "dimension " << d;
                }
            }
        }
    }
}

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

// ---------------------------------------------------------------------------------------------------
// Errors.

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
}  // namespace freqkv::cuda
