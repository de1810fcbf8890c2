// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/transform/resample.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/resample_cases.hpp"
#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/transform/transform_tables.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/frequency_compressor.hpp"
#include "naive.hpp"

// What the kernels are made of, run on the host: the same code, block by block.
namespace freqkv::cuda::resample_test {
namespace {

using detail::Columns;
using detail::ResampleTask;
using detail::TransformTables;

TEST(CudaBlock, TransformsAsTheDefinition) {
    for (Index n = 1; n <= 130; ++n) {
        const Index kept = std::max<Index>(1, n * 2 / 3);
        SCOPED_TRACE("length " + std::to_string(n) + ", " + std::to_string(kept) + " coefficients");
        const Index dims = 5;
        const TransformTables tables(n);
        const detail::TransformView view = tables.view();
        std::vector<float> in = random_values(n * dims, 1);
        std::vector<float> out(static_cast<std::size_t>(kept * dims), -7);
        ResampleTask<float> forward = dense_task(in, n, out, kept, dims);
        forward.forward = &view;
        forward.kept = static_cast<int>(kept);
        run(forward, tables.slots(), {});
        naive::Rows want = naive::dct(rows_of(in, 0, n, dims));
        want.resize(static_cast<std::size_t>(kept));
        ASSERT_NO_FATAL_FAILURE(expect_rows(out, want, dims, 2 * tolerance));

        std::vector<float> back(static_cast<std::size_t>(n * dims), -7);
        ResampleTask<float> inverse = dense_task(out, kept, back, n, dims);
        inverse.inverse = &view;
        inverse.kept = static_cast<int>(kept);
        run(inverse, tables.slots(), {});
        naive::Rows coefficients = rows_of(out, 0, kept, dims);
        coefficients.resize(static_cast<std::size_t>(n), naive::Row(static_cast<std::size_t>(dims)));
        ASSERT_NO_FATAL_FAILURE(expect_rows(back, naive::inverse_dct(coefficients), dims, 2 * tolerance));
    }
}

void check_compression(Index n, Index kept, Index dims, const Launch& launch) {
    SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept) + (launch.pairs ? ", two columns a call" : ""));
    const Transforms transforms(n, kept);
    if (launch.pairs && !transforms.can_pair()) return;
    std::vector<float> in = random_values(n * dims, 2);
    std::vector<float> out(static_cast<std::size_t>(kept * dims), -7);
    ResampleTask<float> task = dense_task(in, n, out, kept, dims);
    transforms.set(task);
    run(task, transforms.slots(), launch);
    ASSERT_NO_FATAL_FAILURE(
        expect_rows(out, naive::low_passed(rows_of(in, 0, n, dims), static_cast<std::size_t>(kept)), dims, tolerance));
}

TEST(CudaBlock, CompressesAsTheDefinition) {
    for (Index n = 2; n <= 130; ++n) {
        for (const Index kept : {Index{1}, n / 2, n - 1, n}) {
            ASSERT_NO_FATAL_FAILURE(check_compression(n, kept, 5, {CallOrder::shuffled, false, 1}));
            ASSERT_NO_FATAL_FAILURE(check_compression(n, kept, 6, {CallOrder::backwards, true, 0}));
        }
    }
}

TEST(CudaBlock, CompressesLongSpansAsTheHost) {
    for (const Index n : {255, 509, 1000, 1021, 2048, 4091, 4092, 4096, 6561, 8188, 8191, 8192}) {
        for (const Index kept : {n / 2, n - 1}) {
            const Index dims = 4;
            const Transforms transforms(n, kept);
            const bool pairs = transforms.can_pair();
            SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept));
            std::vector<float> in = random_values(n * dims, 3);
            std::vector<float> out(static_cast<std::size_t>(kept * dims), -7);
            ResampleTask<float> task = dense_task(in, n, out, kept, dims);
            transforms.set(task);
            run(task, transforms.slots(), {CallOrder::backwards, pairs, pairs ? 0 : 1});

            std::vector<double> exact(in.begin(), in.end());
            std::vector<double> want(out.size());
            Workspace workspace;
            FrequencyCompressor<double, dct::Simd>(n, kept).forward(
                KVView<const double>(exact.data(), 1, n, dims), KVView<double>(want.data(), 1, kept, dims), workspace);
            ASSERT_NO_FATAL_FAILURE(expect_rows(out, rows_of(want, 0, kept, dims), dims, tolerance));
        }
    }
}

TEST(CudaBlock, AdjointIsTheTransposedMap) {
    for (const auto& [n, kept] : {std::pair<Index, Index>{12, 5}, {31, 16}, {37, 20}, {96, 95}, {74, 74}}) {
        SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept));
        const Index dims = 3;
        const Transforms transforms(n, kept);
        std::vector<float> x = random_values(n * dims, 4);
        std::vector<float> y = random_values(kept * dims, 5);
        std::vector<float> compressed(y.size());
        std::vector<float> spread(x.size());
        ResampleTask<float> forward = dense_task(x, n, compressed, kept, dims);
        transforms.set(forward);
        ResampleTask<float> adjoint = dense_task(y, kept, spread, n, dims);
        transforms.set(adjoint, true);
        for (const ResampleTask<float>* task : {&forward, &adjoint}) run(*task, transforms.slots(), {});
        for (Index d = 0; d < dims; ++d) {
            double one = 0;
            double other = 0;
            for (Index r = 0; r < kept; ++r)
                one += static_cast<double>(compressed[static_cast<std::size_t>(r * dims + d)]) *
                       static_cast<double>(y[static_cast<std::size_t>(r * dims + d)]);
            for (Index r = 0; r < n; ++r)
                other += static_cast<double>(spread[static_cast<std::size_t>(r * dims + d)]) *
                         static_cast<double>(x[static_cast<std::size_t>(r * dims + d)]);
            EXPECT_NEAR(one, other, 1e-5) << "dimension " << d;
        }
    }
}

// Barriers are where they are needed: what calls do between two of them must not depend on their order, to the bit.
TEST(CudaBlock, DoesNotDependOnTheOrderOfItsThreads) {
    for (const auto& [n, kept] : {std::pair<Index, Index>{60, 31}, {128, 64}, {124, 62}, {74, 37}, {97, 90}}) {
        const Index dims = 8;
        const Transforms transforms(n, kept);
        const std::vector<float> entries = random_values(n * dims, 6);
        std::vector<float> first;
        for (const CallOrder order : {CallOrder::forwards, CallOrder::backwards, CallOrder::shuffled}) {
            for (const int log_packs : {0, 1, 2}) {
                std::vector<float> cache = entries;  // in place
                ResampleTask<float> task = dense_task(cache, n, cache, n, dims);
                transforms.set(task);
                run(task, transforms.slots(), {order, false, log_packs});
                if (first.empty()) first = cache;
                ASSERT_EQ(cache, first) << n << " to " << kept;
            }
        }
    }
}

TEST(CudaBlock, MeasuresWhatItDiscards) {
    for (const Index dims : {5, 8}) {
        for (const auto& [n, kept] : {std::pair<Index, Index>{48, 12}, {48, 48}, {41, 20}}) {
            SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept));
            const Transforms transforms(n, kept);
            std::vector<float> in = random_values(n * dims, 7);
            std::vector<float> out(static_cast<std::size_t>(kept * dims));
            ResampleTask<float> task = dense_task(in, n, out, kept, dims);
            transforms.set(task);
            run(task, transforms.slots(), {});
            const std::vector<float> without = out;
            std::vector<Energy> energies(1);
            run(task, transforms.slots(), {}, &energies);
            EXPECT_EQ(out, without) << "measuring changes nothing";
            const naive::Rows coefficients = naive::dct(rows_of(in, 0, n, dims));
            const double total = naive::energy(coefficients, 0, static_cast<std::size_t>(n));
            EXPECT_NEAR(energies[0].total, total, 1e-5 * total);
            EXPECT_NEAR(energies[0].discarded,
                        naive::energy(coefficients, static_cast<std::size_t>(kept), static_cast<std::size_t>(n)),
                        1e-5 * total);
            if (kept == n) {
                EXPECT_EQ(energies[0].discarded, 0);
            }
        }
    }
}

TEST(CudaRope, AnglesAreExactAtAnyPosition) {
    RopeOptions options{.head_dim = 128, .base = 500000};
    options.frequency_factors.assign(64, 1.0);
    options.frequency_factors[0] = 0.01;  // many turns for each position
    const std::vector<double> frequencies = rope_frequencies(options);
    const std::vector<std::uint64_t> turns = detail::rope_frequencies_in_turns(frequencies);
    for (const Index position : {Index{0}, Index{1}, Index{-1}, Index{4095}, Index{-70000}, Index{1000003}}) {
        for (std::size_t pair = 0; pair < frequencies.size(); ++pair) {
            const detail::Complex<float> angle = detail::rope_angle(position, turns[pair]);
            const long double radians =
                static_cast<long double>(position) * static_cast<long double>(frequencies[pair]);
            ASSERT_NEAR(angle.re, static_cast<double>(std::cos(radians)), 3e-7) << "position " << position;
            ASSERT_NEAR(angle.im, static_cast<double>(std::sin(radians)), 3e-7) << "position " << position;
        }
    }
}

// Keys that are rotated at `positions` are compressed as before rotation, and rotated at first, first + 1, …
TEST(CudaRope, IsUndoneAndRedoneAroundACompression) {
    const Index n = 24;
    const Index kept = 10;
    const Index new_first = 3;
    for (const RopeCase& rope : rope_cases) {
        for (const bool pairs : {false, true}) {
            for (const bool table : {false, true}) {
                SCOPED_TRACE((rope.pairing == RopePairing::adjacent ? "adjacent, " : "half split, ") +
                             std::to_string(rope.rotated_dims) + " of " + std::to_string(rope.dims) + " dimensions" +
                             (pairs ? ", two columns a call" : "") + (table ? ", table of positions" : ""));
                const RopeOptions options{
                    .head_dim = rope.dims, .rotated_dims = rope.rotated_dims, .pairing = rope.pairing};
                const std::vector<std::uint64_t> turns = detail::rope_frequencies_in_turns(rope_frequencies(options));
                const naive::Rotary rotary{static_cast<std::size_t>(rope.rotated_dims), options.base,
                                           rope.pairing == RopePairing::adjacent};
                std::vector<float> cache = random_values(n * rope.dims, 8);
                const naive::Rows plain = rows_of(cache, 0, n, rope.dims);
                std::vector<Index> positions;
                for (Index r = 0; r < n; ++r) {
                    positions.push_back(table ? 1000 - 7 * r : 2 + r);
                    const naive::Row turned =
                        naive::rotated(plain[static_cast<std::size_t>(r)], positions.back(), rotary);
                    for (Index d = 0; d < rope.dims; ++d) {
                        cache[static_cast<std::size_t>(r * rope.dims + d)] =
                            static_cast<float>(turned[static_cast<std::size_t>(d)]);
                    }
                }
                const Transforms transforms(n, kept);
                const Columns columns{static_cast<int>(rope.dims), static_cast<int>(rope.rotated_dims / 2),
                                      rope.pairing == RopePairing::half_split};
                ResampleTask<float> task;
                task.out = detail::rows_of(one_head<float>(cache, n, rope.dims), columns);
                task.in = detail::read_only(task.out);
                transforms.set(task);
                task.heads = 1;
                task.in_positions = {turns.data(), table ? positions.data() : nullptr, 2};
                task.out_positions = {turns.data(), nullptr, new_first};
                run(task, transforms.slots(), {CallOrder::shuffled, pairs, 0});
                naive::Rows want = naive::low_passed(plain, static_cast<std::size_t>(kept));
                for (Index r = 0; r < kept; ++r) {
                    want[static_cast<std::size_t>(r)] =
                        naive::rotated(want[static_cast<std::size_t>(r)], new_first + r, rotary);
                }
                ASSERT_NO_FATAL_FAILURE(expect_rows(cache, want, rope.dims, tolerance));
            }
        }
    }
}

}  // namespace
}  // namespace freqkv::cuda::resample_test
