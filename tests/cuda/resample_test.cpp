// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/transform/resample.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/transform/closing_up.hpp"
#include "freqkv/cuda/detail/transform/launch_shape.hpp"
#include "freqkv/cuda/detail/transform/move_rows.hpp"
#include "freqkv/cuda/detail/transform/transform_tables.hpp"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/frequency_compressor.hpp"
#include "freqkv/rope.hpp"
#include "naive.hpp"

// What the kernels are made of, run on the host: the same code, block by block.
namespace freqkv::cuda {
namespace {

using detail::Columns;
using detail::EntryRows;
using detail::FloatPair;
using detail::Positions;
using detail::ResampleTask;
using detail::TransformTables;
using testing::ElementsAre;

// The columns of a launch on the host: pairs says whether calls carry two columns.
struct Launch {
    CallOrder order = CallOrder::shuffled;
    bool pairs = false;
    int log_packs = 1;
};

template <class V, class T>
void run_blocks(const ResampleTask<T>& task, int slots, const Launch& launch, std::vector<Energy>* energies) {
    const int packs = detail::columns_of<V> << launch.log_packs;
    const int groups = detail::column_groups(task.columns(), packs);
    for (int b = 0; b < groups * task.heads; ++b) {
        const detail::BlockWork work = detail::work_of_block(b, task.columns(), packs);
        const SerialBlock block(launch.order);
        const CheckedMemory<V> memory(slots, detail::layout_of(task, launch.log_packs), block);
        Energy energy;
        const detail::Resample<V, T, SerialBlock, CheckedMemory<V>> resample(
            task, work.head, work.group << launch.log_packs, block, memory);
        resample.run(energies == nullptr ? nullptr : &energy);
        if (energies != nullptr) (*energies)[static_cast<std::size_t>(work.head)] += energy;
    }
}

template <class T>
void run(const ResampleTask<T>& task, int slots, const Launch& launch, std::vector<Energy>* energies = nullptr) {
    if (launch.pairs) {
        run_blocks<FloatPair>(task, slots, launch, energies);
    } else {
        run_blocks<float>(task, slots, launch, energies);
    }
}

// What compresses n rows to `kept`, and back.
class Transforms {
public:
    Transforms(Index n, Index kept)
        : long_(n),
          short_(kept),
          long_view_(long_.view()),
          short_view_(short_.view()),
          scale_(static_cast<float>(std::sqrt(static_cast<double>(kept) / static_cast<double>(n)))) {}

    template <class T>
    void set(ResampleTask<T>& task, bool adjoint = false) const {
        task.forward = adjoint ? &short_view_ : &long_view_;
        task.inverse = adjoint ? &long_view_ : &short_view_;
        task.kept = short_.length();
        task.scale = scale_;
    }

    int slots() const { return std::max(long_.slots(), short_.slots()); }
    bool can_pair() const {
        return std::max(long_.largest_radix(), short_.largest_radix()) <= detail::widest_pair_radix;
    }

private:
    TransformTables long_, short_;
    detail::TransformView long_view_, short_view_;
    float scale_;
};

std::vector<float> random_values(Index count, std::uint64_t seed) {
    naive::Random next(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(next());
    return values;
}

template <class T>
naive::Rows rows_of(const std::vector<T>& values, Index first, Index count, Index dims) {
    naive::Rows rows;
    for (Index r = first; r < first + count; ++r) {
        naive::Row row;
        for (Index d = 0; d < dims; ++d)
            row.push_back(static_cast<double>(values[static_cast<std::size_t>(r * dims + d)]));
        rows.push_back(row);
    }
    return rows;
}

template <class T>
void expect_rows(const std::vector<T>& values, const naive::Rows& want, Index dims, double tolerance) {
    const naive::Rows have = rows_of(values, 0, static_cast<Index>(want.size()), dims);
    for (std::size_t r = 0; r < want.size(); ++r) {
        for (std::size_t d = 0; d < want[r].size(); ++d) {
            ASSERT_NEAR(have[r][d], want[r][d], tolerance) << "row " << r << ", dimension " << d;
        }
    }
}

// A dense matrix [rows, dims] as a view of one head.
template <class T>
KVView<T> one_head(std::vector<std::remove_const_t<T>>& values, Index rows, Index dims) {
    return KVView<T>(values.data(), 1, rows, dims);
}

ResampleTask<float> dense_task(std::vector<float>& in, Index in_rows, std::vector<float>& out, Index out_rows,
                               Index dims) {
    const Columns columns{static_cast<int>(dims), 0, false};
    ResampleTask<float> task;
    task.in = detail::rows_of(KVView<const float>(one_head<float>(in, in_rows, dims)), columns);
    task.out = detail::rows_of(one_head<float>(out, out_rows, dims), columns);
    task.heads = 1;
    return task;
}

// ---------------------------------------------------------------------------------------------------
// Plans.

TEST(CudaPlan, PassesMultiplyToTheLength) {
    int convolutions = 0;
    for (int n = 1; n <= 8192; ++n) {
        const std::vector<int> passes = detail::fft_passes(n);
        if (passes.empty()) {
            ++convolutions;
            continue;
        }
        int product = 1;
        for (const int radix : passes) product *= radix;
        ASSERT_EQ(product, n);
        ASSERT_LE(passes.size(), static_cast<std::size_t>(detail::FftView::max_passes));
    }
    EXPECT_EQ(convolutions, 6606) << "lengths with a prime factor above 31";
    EXPECT_THAT(detail::fft_passes(4096), ElementsAre(16, 16, 16));
    EXPECT_THAT(detail::fft_passes(2048), ElementsAre(16, 16, 8));
    EXPECT_THAT(detail::fft_passes(4092), ElementsAre(31, 11, 12));
    EXPECT_THAT(detail::fft_passes(2046), ElementsAre(31, 11, 6));
}

TEST(CudaPlan, DividesByMultiplication) {
    for (int divisor = 1; divisor < 1 << 16; divisor += 1 + divisor / 16) {
        const detail::FastDivisor fast(divisor);
        for (int value = 0; value < 1 << 16; value += 1 + value % 7) ASSERT_EQ(fast.divide(value), value / divisor);
        for (int multiple = divisor; multiple < 1 << 16; multiple += divisor) {
            ASSERT_EQ(fast.divide(multiple), multiple / divisor);
            ASSERT_EQ(fast.divide(multiple - 1), multiple / divisor - 1);
        }
    }
}

TEST(CudaPlan, RefusesLengthsOutOfRange) {
    for (const Index n : {Index{-1}, Index{0}, TransformTables::max_length + 1}) {
        EXPECT_THAT([&] { TransformTables{n}; }, testing::ThrowsMessage<Error>("freqkv: n is " + std::to_string(n) +
                                                                               ", must be 1 to 16384 on a device"));
    }
    EXPECT_EQ(TransformTables(16384).slots(), 16384);
    EXPECT_EQ(TransformTables(16381).slots(), 32768) << "a prime: a convolution of twice the length";
}

// Rows in shared memory are in an order of the plan's own; every row has to be there once.
TEST(CudaPlan, HoldsEveryRowOnce) {
    for (const Index n : {1, 2, 3, 31, 37, 360, 1021, 4092, 4096}) {
        const TransformTables tables(n);
        std::vector<std::int32_t> rows(tables.rows);
        std::sort(rows.begin(), rows.end());
        for (std::size_t i = 0; i < rows.size(); ++i)
            ASSERT_EQ(rows[i], static_cast<std::int32_t>(i)) << "length " << n;
        ASSERT_EQ(rows.size(), static_cast<std::size_t>(n));
    }
}

// ---------------------------------------------------------------------------------------------------
// Transform and compression, against the definition.

// Of values within 1; single precision gives 1e-6 for the longest length.
constexpr double tolerance = 2e-6;

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

// ---------------------------------------------------------------------------------------------------
// Rotation.

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

struct RopeCase {
    RopePairing pairing;
    Index dims;
    Index rotated_dims;
};

const std::vector<RopeCase> rope_cases{
    {RopePairing::adjacent, 8, 8},   {RopePairing::adjacent, 8, 6},   {RopePairing::adjacent, 7, 4},
    {RopePairing::half_split, 8, 8}, {RopePairing::half_split, 8, 4}, {RopePairing::half_split, 12, 6},
    {RopePairing::half_split, 9, 6}, {RopePairing::half_split, 8, 0},
};

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

// ---------------------------------------------------------------------------------------------------
// Rows: every layout and element type gives the same bits as a dense one.

template <class T>
class CudaRows : public testing::Test {};
using Stored = testing::Types<float, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(CudaRows, Stored);

// Compresses [heads, n, dims] in place in the given memory, in which the view begins at `offset`.
template <class T, class View>
std::vector<T> compressed(std::vector<T> memory, View view, Index offset, Index kept, bool pairs) {
    view.data = memory.data() + offset;
    const Transforms transforms(view.tokens, kept);
    ResampleTask<T> task;
    task.out = detail::rows_of(view, Columns{static_cast<int>(view.head_dim), 0, false});
    task.in = detail::read_only(task.out);
    transforms.set(task);
    task.heads = static_cast<int>(view.heads);
    run(task, transforms.slots(), {CallOrder::shuffled, pairs, 0});
    return memory;
}

TYPED_TEST(CudaRows, OfAnyLayoutGiveTheSame) {
    using T = TypeParam;
    const Index heads = 2;
    const Index n = 20;
    const Index kept = 10;
    struct Layout {
        Index offset;
        Index head_stride, token_stride, dim_stride;
    };
    for (const Index dims : {8, 6, 5, 1}) {
        const Index room = n + 3;
        const std::vector<Layout> layouts{
            {0, room * dims, dims, 1},               // head-major
            {0, dims, heads * dims + 3, 1},          // token-major, odd
            {0, dims * room, 1, room},               // transposed
            {1, 2 * room * dims, 2 * dims, 2},       // no axis is dense
            {(n - 1) * dims, room * dims, -dims, 1}  // the newest first
        };
        const std::vector<float> entries = random_values(heads * n * dims, 9);
        for (const bool pairs : {false, true}) {
            std::vector<T> first;
            for (const Layout& layout : layouts) {
                std::vector<T> memory(static_cast<std::size_t>(2 * heads * room * (dims + 3)), static_cast<T>(-77.5F));
                const auto at = [&](Index h, Index t, Index d) -> std::size_t {
                    return static_cast<std::size_t>(layout.offset + h * layout.head_stride + t * layout.token_stride +
                                                    d * layout.dim_stride);
                };
                for (Index h = 0; h < heads; ++h) {
                    for (Index t = 0; t < n; ++t) {
                        for (Index d = 0; d < dims; ++d) {
                            memory[at(h, t, d)] =
                                static_cast<T>(entries[static_cast<std::size_t>((h * n + t) * dims + d)]);
                        }
                    }
                }
                const std::vector<T> before = memory;
                memory = compressed(
                    memory,
                    KVView<T>(nullptr, heads, n, dims, layout.head_stride, layout.token_stride, layout.dim_stride),
                    layout.offset, kept, pairs);
                std::vector<bool> inside(memory.size());
                std::vector<T> result;
                for (Index h = 0; h < heads; ++h) {
                    for (Index t = 0; t < kept; ++t) {
                        for (Index d = 0; d < dims; ++d) {
                            inside[at(h, t, d)] = true;
                            result.push_back(memory[at(h, t, d)]);
                        }
                    }
                }
                if (first.empty()) first = result;
                ASSERT_EQ(result, first) << dims << " dimensions, layout " << &layout - layouts.data();
                for (std::size_t i = 0; i < memory.size(); ++i) {
                    if (!inside[i]) {
                        ASSERT_EQ(memory[i], before[i]) << "element " << i << " is not of the result";
                    }
                }
            }
        }
    }
}

TYPED_TEST(CudaRows, InPagesGiveTheSame) {
    using T = TypeParam;
    const Index heads = 2;
    const Index n = 40;
    const Index kept = 20;
    const Index dims = 8;
    const std::vector<float> entries = random_values(heads * n * dims, 10);
    std::vector<T> dense;
    for (const float value : entries) dense.push_back(static_cast<T>(value));
    const std::vector<T> want = compressed(dense, KVView<T>(nullptr, heads, n, dims), 0, kept, true);
    for (const Index page : {1, 16, 32, 64}) {
        const Index pages = (n + page - 1) / page;
        std::vector<std::int32_t> table;
        for (Index i = 0; i < pages; ++i) table.push_back(static_cast<std::int32_t>((i * 7 + 3) % pages));
        if (pages % 7 == 0) std::reverse(table.begin(), table.end());
        for (const bool heads_first : {false, true}) {
            SCOPED_TRACE("pages of " + std::to_string(page) + (heads_first ? ", heads first" : ", tokens first"));
            PagedKVView<T> view{nullptr, table.data(), pages, page, heads, n, dims, page * heads * dims};
            view.head_stride = heads_first ? page * dims : dims;
            view.token_stride = heads_first ? dims : heads * dims;
            const auto at = [&](Index h, Index t, Index d) -> std::size_t {
                return static_cast<std::size_t>(table[static_cast<std::size_t>(t / page)] * view.page_stride +
                                                h * view.head_stride + t % page * view.token_stride + d);
            };
            std::vector<T> pool(static_cast<std::size_t>(pages * view.page_stride), static_cast<T>(-77.5F));
            for (Index h = 0; h < heads; ++h) {
                for (Index t = 0; t < n; ++t) {
                    for (Index d = 0; d < dims; ++d) {
                        pool[at(h, t, d)] = dense[static_cast<std::size_t>((h * n + t) * dims + d)];
                    }
                }
            }
            pool = compressed(pool, view, 0, kept, true);
            for (Index h = 0; h < heads; ++h) {
                for (Index t = 0; t < kept; ++t) {
                    for (Index d = 0; d < dims; ++d) {
                        ASSERT_EQ(pool[at(h, t, d)], want[static_cast<std::size_t>((h * n + t) * dims + d)])
                            << "head " << h << ", entry " << t;
                    }
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Closing up.

TEST(CudaClosingUp, GoesInAscendingOrder) {
    using detail::Stretch;
    EXPECT_THAT(detail::closing_up({{4, 8, 4}}, 12), ElementsAre(Stretch{0, 0, 4, false}, Stretch{4, 4, 4, true}));
    EXPECT_THAT(detail::closing_up({{0, 8, 3}, {8, 4, 2}, {14, 2, 1}}, 20),
                ElementsAre(Stretch{0, 0, 3, true}, Stretch{8, 3, 2, true}, Stretch{12, 5, 2, false},
                            Stretch{14, 7, 1, true}, Stretch{16, 8, 4, false}));
}

TEST(CudaClosingUp, MovesAndTurnsRows) {
    const Index n = 50;
    const Index from = 20;
    const Index count = 30;
    for (const Index to : {0, 13, 19, 20}) {
        for (const RopeCase& rope : rope_cases) {
            for (const bool pairs : {false, true}) {
                SCOPED_TRACE("to " + std::to_string(to) + ", " + std::to_string(rope.rotated_dims) + " of " +
                             std::to_string(rope.dims) + " dimensions" + (pairs ? ", two columns a call" : ""));
                const RopeOptions options{
                    .head_dim = rope.dims, .rotated_dims = rope.rotated_dims, .pairing = rope.pairing};
                const std::vector<std::uint64_t> turns = detail::rope_frequencies_in_turns(rope_frequencies(options));
                const naive::Rotary rotary{static_cast<std::size_t>(rope.rotated_dims), options.base,
                                           rope.pairing == RopePairing::adjacent};
                std::vector<float> cache = random_values(n * rope.dims, 11);
                naive::Rows want = rows_of(cache, 0, n, rope.dims);
                const naive::Rows before = want;
                std::vector<Index> positions;
                for (Index i = 0; i < count; ++i) {
                    positions.push_back(i % 3 == 0 ? to + i : from + 2 * i);
                    want[static_cast<std::size_t>(to + i)] =
                        naive::rotated(before[static_cast<std::size_t>(from + i)], to + i - positions.back(), rotary);
                }
                detail::MoveTask<float> task;
                task.rows =
                    detail::rows_of(one_head<float>(cache, n, rope.dims),
                                    Columns{static_cast<int>(rope.dims), static_cast<int>(rope.rotated_dims / 2),
                                            rope.pairing == RopePairing::half_split});
                task.heads = 1;
                task.from = static_cast<int>(from);
                task.to = static_cast<int>(to);
                task.count = static_cast<int>(count);
                if (rope.rotated_dims > 0) task.positions = {turns.data(), positions.data(), 0};
                const int slots = 7;  // fewer than rows, and no divisor
                const int packs = 8;  // all columns
                const SerialBlock block(CallOrder::shuffled);
                const detail::SharedLayout layout{3, false};
                if (pairs) {
                    detail::move_rows<FloatPair>(task, 0, 0, slots, block,
                                                 CheckedMemory<FloatPair>(slots, layout, block));
                } else {
                    detail::move_rows<float>(task, 0, 0, slots, block, CheckedMemory<float>(slots, layout, block));
                }
                ASSERT_LE((rope.dims + 1) / 2, packs);
                ASSERT_NO_FATAL_FAILURE(expect_rows(cache, want, rope.dims, tolerance));
                for (Index i = 0; i < count; i += 3) {
                    const naive::Rows moved = rows_of(cache, to + i, 1, rope.dims);
                    ASSERT_EQ(moved[0], before[static_cast<std::size_t>(from + i)])
                        << "moved, but not turned: no bit changes";
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Launches.

// What NVIDIA states for compute capability 9.0 and 8.0.
constexpr detail::DeviceLimits h100{232448, 233472};
constexpr detail::DeviceLimits a100{166912, 167936};

TEST(CudaLaunch, FitsTheDevice) {
    for (const detail::DeviceLimits& limits : {h100, a100}) {
        for (Index n = 2; n <= 8192; n += 1 + n / 50) {
            const TransformTables tables(n);
            for (const int columns : {1, 3, 40, 64}) {
                for (const int wanted : {0, 1, 2, 4, 8, 64}) {
                    const bool pairs = detail::carries_pairs(tables.slots(), tables.largest_radix(), columns, limits);
                    ASSERT_TRUE(!pairs || tables.largest_radix() <= detail::widest_pair_radix);
                    const detail::LaunchShape shape =
                        detail::launch_shape(tables.slots(), pairs, columns, limits, wanted);
                    ASSERT_LE(shape.shared_bytes + detail::static_shared_bytes, limits.shared_per_block) << n;
                    ASSERT_EQ(shape.shared_bytes, detail::shared_bytes(tables.slots(), shape.columns()));
                    ASSERT_GE(shape.threads, 32);
                    ASSERT_LE(shape.threads, detail::most_threads);
                    ASSERT_EQ(shape.threads % 32, 0) << "whole warps";
                    ASSERT_EQ(shape.threads % (1 << shape.log_packs), 0) << "a thread's places are of one pack";
                    ASSERT_LE(shape.columns(), std::max(wanted, 2 * columns)) << "no more columns than there are";
                }
            }
        }
        EXPECT_FALSE(detail::carries_pairs(TransformTables(8191).slots(), 16, 64, limits));
        EXPECT_EQ(detail::launch_shape(TransformTables(8191).slots(), false, 64, limits).columns(), 1)
            << "the longest convolution leaves room for one column";
    }
}

TEST(CudaLaunch, RefusesWhatDoesNotFit) {
    EXPECT_THAT(
        [] { detail::carries_pairs(32768, 16, 64, h100); },
        testing::ThrowsMessage<Error>("freqkv: length is too large for the device: 279040 bytes of shared memory, "
                                      "which may be at most 232448"));
    EXPECT_FALSE(detail::carries_pairs(16384, 16, 64, h100)) << "fits once";
}

TEST(CudaLaunch, HoldsManyTasks) {
    EXPECT_GE(detail::Batch<ResampleTask<float>>::most_tasks, 128) << "keys and values of 64 layers at once";
    EXPECT_LE(sizeof(detail::Batch<ResampleTask<float>>), 32764U);
    EXPECT_LE(sizeof(detail::Batch<detail::MoveTask<float>>), 32764U);
}

}  // namespace
}  // namespace freqkv::cuda
