// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/fast_capacity.hpp"
#include "freqkv/version.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"
#include "message_of.hpp"

namespace freqkv {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

static_assert(version.major == FREQKV_VERSION_MAJOR && version.minor == FREQKV_VERSION_MINOR &&
              version.patch == FREQKV_VERSION_PATCH);

static_assert(sizeof(Index) == 8 && std::is_signed_v<Index>);
static_assert(std::is_same_v<Arithmetic<float>, float> && std::is_same_v<Arithmetic<double>, double>);
static_assert(std::is_same_v<Arithmetic<const double>, double>);
static_assert(std::is_same_v<Arithmetic<Eigen::half>, float> && std::is_same_v<Arithmetic<Eigen::bfloat16>, float>);

TEST(ErrorTest, NamesParameterValueAndWhatIsAllowed) {
    EXPECT_EQ(message_of([] { refuse("ratio", "2", "must be below 1"); }), "freqkv: ratio is 2, must be below 1");
    EXPECT_EQ(message_of([] { require(false, "capacity", -3, "must be positive"); }),
              "freqkv: capacity is -3, must be positive");
    EXPECT_EQ(message_of([] { require(true, "capacity", 3, "must be positive"); }), "accepted");
}

TEST(ErrorTest, IsAnInvalidArgument) { EXPECT_THROW(refuse("x", "y", "z"), std::invalid_argument); }

TEST(CheckedProduct, Multiplies) {
    EXPECT_EQ(checked_product("size", 7), 7);
    EXPECT_EQ(checked_product("size", 3, 4, 5), 60);
    EXPECT_EQ(checked_product("size", Index{1} << 31, Index{1} << 31), Index{1} << 62);
}

TEST(CheckedProduct, AcceptsTheLargestIndex) {
    constexpr Index largest = std::numeric_limits<Index>::max();
    EXPECT_EQ(checked_product("size", largest), largest);
    EXPECT_EQ(checked_product("size", largest, 1), largest);
    EXPECT_EQ(checked_product("size", largest / 7, 7), largest / 7 * 7);
}

TEST(CheckedProduct, RefusesOverflowWhereverItHappens) {
    constexpr Index half = Index{1} << 62;
    EXPECT_THAT(message_of([] { checked_product("key storage", half, 2); }), HasSubstr("key storage"));
    EXPECT_THAT(message_of([] { checked_product("key storage", 3, half, 1); }), HasSubstr("64-bit"));
    EXPECT_THAT(message_of([] { checked_product("key storage", Index{1} << 32, Index{1} << 31); }),
                HasSubstr("64-bit"));
}

TEST(CheckedProduct, ZeroCountsAreNoOverflow) {
    EXPECT_EQ(checked_product("size", 0), 0);
    EXPECT_EQ(checked_product("size", 0, std::numeric_limits<Index>::max(), 2), 0);
}

TEST(CheckedProduct, RefusesNegativeCounts) {
    EXPECT_THAT(message_of([] { checked_product("size", 2, -1); }), AllOf(HasSubstr("size"), HasSubstr("-1")));
    EXPECT_THAT(message_of([] { checked_product("size", 0, -1); }), HasSubstr("negative"));
}

static_assert(std::is_trivially_copyable_v<MatrixView<float>> && std::is_trivially_copyable_v<KVView<float>>);
static_assert(std::is_convertible_v<MatrixView<float>, MatrixView<const float>>);
static_assert(!std::is_convertible_v<MatrixView<const float>, MatrixView<float>>);
static_assert(std::is_convertible_v<KVView<float>, KVView<const float>>);
static_assert(!std::is_convertible_v<KVView<const float>, KVView<float>>);
static_assert(!std::is_constructible_v<MatrixView<float>, const Eigen::MatrixXf&>, "a const matrix is not written");
static_assert(!std::is_constructible_v<MatrixView<float>, Eigen::MatrixXd&>, "element types differ");
static_assert(!std::is_constructible_v<KVView<float>, Eigen::Tensor<float, 2>&>, "a KVView has three axes");
static_assert(!std::is_constructible_v<KVView<float>, const Eigen::Tensor<float, 3>&>, "a const tensor is not written");

TEST(MatrixViewTest, DenseIsRowMajor) {
    std::array<int, 6> memory{0, 1, 2, 3, 4, 5};
    const MatrixView<int> view(memory.data(), 2, 3);
    EXPECT_EQ(view(0, 2), 2);
    EXPECT_EQ(view(1, 0), 3);
    EXPECT_EQ(view.row(1), &memory[3]);
    view(1, 2) = 50;
    EXPECT_EQ(memory[5], 50);
}

TEST(MatrixViewTest, NegativeStridesReadBackwards) {
    std::array<int, 6> memory{0, 1, 2, 3, 4, 5};
    const MatrixView<const int> view(memory.data() + 5, 2, 3, -3, -1);
    EXPECT_EQ(view(0, 0), 5);
    EXPECT_EQ(view(0, 2), 3);
    EXPECT_EQ(view(1, 2), 0);
}

TEST(MatrixViewTest, PartsKeepStrides) {
    std::array<int, 12> memory{};
    std::iota(memory.begin(), memory.end(), 0);
    const MatrixView<const int> view(memory.data(), 3, 2, 4, 2);
    const MatrixView<const int> rows = view.middle_rows(1, 2);
    EXPECT_EQ(rows.rows, 2);
    EXPECT_EQ(rows.columns, 2);
    EXPECT_EQ(rows(1, 1), 10);
    const MatrixView<const int> column = view.middle_columns(1, 1);
    EXPECT_EQ(column.rows, 3);
    EXPECT_EQ(column.columns, 1);
    EXPECT_EQ(column(2, 0), 10);
}

template <class Matrix>
class EigenMatrixTest : public ::testing::Test {};

template <int Order>
using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Order>;
using EigenMatrices = ::testing::Types<FloatMatrix<Eigen::RowMajor>, FloatMatrix<Eigen::ColMajor>>;
TYPED_TEST_SUITE(EigenMatrixTest, EigenMatrices);

TYPED_TEST(EigenMatrixTest, MatrixMapAndBlockAreViewed) {
    TypeParam matrix = TypeParam::Random(5, 7);
    const auto expect_same = [](const MatrixView<const float>& view, const auto& expected) {
        ASSERT_EQ(view.rows, expected.rows());
        ASSERT_EQ(view.columns, expected.cols());
        for (Index r = 0; r < view.rows; ++r) {
            for (Index c = 0; c < view.columns; ++c) EXPECT_EQ(view(r, c), expected(r, c)) << r << ", " << c;
        }
    };
    const TypeParam& read_only = matrix;
    expect_same(matrix, matrix);
    expect_same(read_only, matrix);
    expect_same(matrix.block(1, 2, 3, 4), matrix.block(1, 2, 3, 4));

    using Strided = Eigen::Map<TypeParam, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
    const Strided map(matrix.data(), 2, 3, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(8, 2));
    expect_same(map, map);

    const MatrixView<float> writable(matrix);
    writable(4, 6) = 42;
    EXPECT_EQ(matrix(4, 6), 42);
}

TEST(KVViewTest, DenseIsHeadsTokensDims) {
    std::array<int, 24> memory{};
    std::iota(memory.begin(), memory.end(), 0);
    const KVView<int> view(memory.data(), 2, 3, 4);
    EXPECT_EQ(view.head(1)(2, 3), 23);
    EXPECT_EQ(view.head(1)(0, 0), 12);
    EXPECT_EQ(view.head(0).rows, 3);
    EXPECT_EQ(view.head(0).columns, 4);
}

TEST(KVViewTest, TokenMajor) {
    std::array<int, 24> memory{};
    std::iota(memory.begin(), memory.end(), 0);
    const auto view = KVView<const int>::token_major(memory.data(), 2, 3, 4);
    EXPECT_EQ(view.heads, 2);
    EXPECT_EQ(view.tokens, 3);
    EXPECT_EQ(view.head(1)(0, 0), 4);   // token 0, head 1
    EXPECT_EQ(view.head(0)(1, 0), 8);   // token 1, head 0
    EXPECT_EQ(view.head(1)(2, 3), 23);  // the last of all
}

TEST(KVViewTest, MiddleTokens) {
    std::array<int, 24> memory{};
    std::iota(memory.begin(), memory.end(), 0);
    const KVView<const int> view = KVView<int>(memory.data(), 2, 3, 4).middle_tokens(1, 2);
    EXPECT_EQ(view.tokens, 2);
    EXPECT_EQ(view.head(0)(0, 0), 4);
    EXPECT_EQ(view.head(1)(1, 3), 23);
}

template <class Layout>
class EigenTensorTest : public ::testing::Test {};

using Layouts = ::testing::Types<std::integral_constant<int, Eigen::RowMajor>,  //
                                 std::integral_constant<int, Eigen::ColMajor>>;
TYPED_TEST_SUITE(EigenTensorTest, Layouts);

TYPED_TEST(EigenTensorTest, TensorAndMapAreViewed) {
    using Tensor = Eigen::Tensor<float, 3, TypeParam::value>;
    Tensor tensor(2, 3, 4);
    tensor.setRandom();
    const auto expect_same = [&](const KVView<const float>& view) {
        ASSERT_EQ(view.heads, 2);
        ASSERT_EQ(view.tokens, 3);
        ASSERT_EQ(view.head_dim, 4);
        for (Index h = 0; h < 2; ++h) {
            for (Index t = 0; t < 3; ++t) {
                for (Index d = 0; d < 4; ++d) EXPECT_EQ(view.head(h)(t, d), tensor(h, t, d));
            }
        }
    };
    const Tensor& read_only = tensor;
    expect_same(tensor);
    expect_same(read_only);
    expect_same(Eigen::TensorMap<Tensor>(tensor.data(), 2, 3, 4));
    expect_same(Eigen::TensorMap<const Tensor>(tensor.data(), 2, 3, 4));

    const KVView<float> writable(tensor);
    writable.head(1)(2, 3) = 42;
    EXPECT_EQ(tensor(1, 2, 3), 42);
}

bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; }

TEST(FastCapacity, IsTheLargestWithSmallPrimesOnly) {
    EXPECT_EQ(fast_capacity(4096, 4), 4 + 4050);
    EXPECT_EQ(fast_capacity(4100, 4), 4100);
    EXPECT_EQ(fast_capacity(512, 4, 64), 4 + 432 + 64);
    EXPECT_EQ(fast_capacity(2, 0), 2);
    EXPECT_EQ(fast_capacity(7, 2, 2), 6);
}

TEST(FastCapacity, SpansAreEvenAndWithinTheLimit) {
    for (Index limit = 12; limit < 3000; limit += 7) {
        const Index span = fast_capacity(limit, 4, 6) - 10;
        EXPECT_LE(span, limit - 10);
        EXPECT_GE(span, (limit - 10) / 3) << "of " << limit;
        EXPECT_EQ(span % 2, 0);
    }
}

TEST(FastCapacity, RefusesWithAReason) {
    EXPECT_THAT(message_of([] { fast_capacity(100, -1); }), HasSubstr("sinks"));
    EXPECT_THAT(message_of([] { fast_capacity(100, 1, -1); }), HasSubstr("recent"));
    EXPECT_THAT(message_of([] { fast_capacity(5, 2, 2); }), HasSubstr("limit"));
    EXPECT_THAT(message_of([] { fast_capacity(100, std::numeric_limits<Index>::max()); }), HasSubstr("limit"));
}

TEST(AlignedBufferTest, IsAlignedAndSized) {
    const AlignedBuffer<double> buffer(5);
    EXPECT_TRUE(is_aligned(buffer.data()));
    EXPECT_EQ(buffer.size(), 5);
    EXPECT_EQ(buffer.bytes(), 40);
    EXPECT_EQ(AlignedBuffer<double>().data(), nullptr);
    EXPECT_EQ(AlignedBuffer<double>(0).size(), 0);
}

TEST(AlignedBufferTest, CopiesAreDeepAndMovesAreNot) {
    AlignedBuffer<int> first(2);
    first.data()[0] = 1;
    first.data()[1] = 2;
    AlignedBuffer<int> copy(first);
    copy.data()[0] = 10;
    EXPECT_EQ(first.data()[0], 1);
    EXPECT_EQ(copy.data()[1], 2);

    const int* const memory = copy.data();
    const AlignedBuffer<int> moved(std::move(copy));
    EXPECT_EQ(moved.data(), memory);
    first = moved;
    EXPECT_NE(first.data(), memory);
    EXPECT_EQ(first.data()[0], 10);
}

TEST(AlignedBufferTest, RefusesImpossibleSizes) {
    EXPECT_THAT(message_of([] { AlignedBuffer<double>{-1}; }), HasSubstr("-1"));
    EXPECT_THAT(message_of([] { AlignedBuffer<double>{Index{1} << 61}; }), HasSubstr("64-bit"));
}

TEST(WorkspaceTest, GrowsAndThenStays) {
    Workspace workspace;
    EXPECT_EQ(workspace.bytes(), 0);
    std::byte* const first = workspace.reserve(3, 100);
    EXPECT_TRUE(is_aligned(first));
    EXPECT_EQ(Workspace::stride(100), 128);
    EXPECT_EQ(workspace.bytes(), 3 * 128);
    EXPECT_EQ(workspace.reserve(1, 384), first);
    EXPECT_EQ(workspace.reserve(6, 1), first);
    EXPECT_EQ(workspace.bytes(), 3 * 128);
    workspace.reserve(4, 128);
    EXPECT_EQ(workspace.bytes(), 4 * 128);
}

TEST(WorkspaceTest, StrideKeepsRegionsOffSharedCacheLines) {
    EXPECT_EQ(Workspace::stride(0), 0);
    EXPECT_EQ(Workspace::stride(1), 64);
    EXPECT_EQ(Workspace::stride(64), 64);
    EXPECT_EQ(Workspace::stride(65), 128);
}

TEST(WorkspaceTest, RefusesOverflowWithoutChange) {
    Workspace workspace;
    workspace.reserve(1, 64);
    EXPECT_THAT(message_of([&] { workspace.reserve(Index{1} << 60, 64); }), HasSubstr("workspace size"));
    EXPECT_EQ(workspace.bytes(), 64);
}

TEST(WorkspaceTest, CopiesHaveTheSizeAndMemoryOfTheirOwn) {
    Workspace workspace;
    std::byte* const memory = workspace.reserve(1, 256);
    Workspace copy(workspace);
    EXPECT_EQ(copy.bytes(), 256);
    EXPECT_NE(copy.reserve(1, 256), memory);
    Workspace assigned;
    assigned = workspace;
    EXPECT_EQ(assigned.bytes(), 256);
    EXPECT_NE(assigned.reserve(1, 256), memory);
    Workspace moved(std::move(assigned));
    EXPECT_EQ(moved.bytes(), 256);
}

TEST(WorkspaceCursorTest, PiecesAreAlignedAndDisjoint) {
    Workspace workspace;
    const Index bytes = WorkspaceCursor::size<double>(3) + WorkspaceCursor::size<char>(65);
    EXPECT_EQ(bytes, 64 + 128);
    std::byte* const begin = workspace.reserve(1, bytes);
    WorkspaceCursor cursor(begin);
    auto* const doubles = cursor.take<double>(3);
    auto* const chars = cursor.take<char>(65);
    EXPECT_EQ(static_cast<void*>(doubles), begin);
    EXPECT_EQ(static_cast<void*>(chars), begin + 64);
}

// A thread pool as an engine might have one, kept as simple as can be.
class Pool {
public:
    explicit Pool(Index threads) {
        for (Index worker = 0; worker < threads; ++worker) {
            threads_.emplace_back([this, worker] { work(worker); });
        }
    }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    Index size() const { return static_cast<Index>(threads_.size()); }

    void run(Index count, std::function<void(Index, Index)> f) {
        std::unique_lock lock(mutex_);
        f_ = std::move(f);
        next_ = 0;
        count_ = count;
        unfinished_ = count;
        wake_.notify_all();
        done_.wait(lock, [&] { return unfinished_ == 0; });
    }

private:
    void work(Index worker) {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [&] { return stop_ || next_ < count_; });
            if (stop_) return;
            const Index task = next_++;
            lock.unlock();
            f_(task, worker);
            lock.lock();
            if (--unfinished_ == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable done_;
    std::function<void(Index, Index)> f_;
    Index next_ = 0;
    Index count_ = 0;
    Index unfinished_ = 0;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

struct PoolExecutor {
    Pool* pool;

    Index concurrency() const { return pool->size(); }
    template <class F>
    void for_each(Index count, F&& f) const {
        if (count > 0) pool->run(count, [&f](Index task, Index worker) { f(task, worker); });
    }
};

struct NoConcurrency {
    template <class F>
    void for_each(Index count, F&& f) const;
};

static_assert(Executor<SerialExecutor> && Executor<PoolExecutor>);
static_assert(!Executor<NoConcurrency> && !Executor<int>);

// Every task runs once; no two tasks run under one worker number at a time.
template <Executor E>
void expect_keeps_the_contract(const E& executor, Index count) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
    std::vector<std::atomic<int>> busy(static_cast<std::size_t>(executor.concurrency()));
    // Not atomic, so that the thread sanitizer sees it if two tasks share a worker, or if for_each returns early.
    std::vector<Index> sums(busy.size());
    std::atomic<bool> overlap = false;
    executor.for_each(count, [&](Index task, Index worker) {
        const auto w = static_cast<std::size_t>(worker);
        if (busy.at(w)++ != 0) overlap = true;
        ++runs.at(static_cast<std::size_t>(task));
        sums[w] += task;
        --busy[w];
    });
    EXPECT_FALSE(overlap);
    EXPECT_THAT(std::vector<int>(runs.begin(), runs.end()), Each(1));
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), Index{0}), count * (count - 1) / 2);
}

// Every task runs although some throw, and the exception that comes out is the first by number.
template <Executor E>
void expect_first_exception(const E& executor) {
    std::array<std::atomic<int>, 40> runs{};
    try {
        for_each_catching(executor, 40, [&](Index task, Index) {
            ++runs[static_cast<std::size_t>(task)];
            if (task % 10 == 7) throw std::runtime_error("task " + std::to_string(task));
        });
        FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "task 7");
    }
    EXPECT_THAT(std::vector<int>(runs.begin(), runs.end()), Each(1));
}

TEST(SerialExecutorTest, RunsInOrderOnThisThread) {
    std::vector<Index> tasks;
    SerialExecutor{}.for_each(5, [&, caller = std::this_thread::get_id()](Index task, Index worker) {
        EXPECT_EQ(worker, 0);
        EXPECT_EQ(std::this_thread::get_id(), caller);
        tasks.push_back(task);
    });
    EXPECT_THAT(tasks, ::testing::ElementsAre(0, 1, 2, 3, 4));
    expect_first_exception(SerialExecutor{});
}

TEST(PoolExecutorTest, KeepsTheContract) {
    Pool pool(3);
    for (const Index count : {0, 1, 2, 3, 100}) expect_keeps_the_contract(PoolExecutor{&pool}, count);
}

TEST(PoolExecutorTest, RethrowsTheFirstException) {
    Pool pool(3);
    for (int i = 0; i < 20; ++i) expect_first_exception(PoolExecutor{&pool});
}

#if defined(_OPENMP)
static_assert(Executor<OpenMPExecutor>);

TEST(OpenMPExecutorTest, KeepsTheContract) {
    for (const int threads : {1, 2, 3}) {
        EXPECT_EQ(OpenMPExecutor(threads).concurrency(), threads);
        for (const Index count : {0, 1, 2, 3, 100}) expect_keeps_the_contract(OpenMPExecutor(threads), count);
    }
}

TEST(OpenMPExecutorTest, RethrowsTheFirstException) {
    for (int i = 0; i < 20; ++i) expect_first_exception(OpenMPExecutor(3));
}

TEST(OpenMPExecutorTest, TakesAllThreadsByDefault) { EXPECT_EQ(OpenMPExecutor().concurrency(), omp_get_max_threads()); }

TEST(OpenMPExecutorTest, RefusesNegativeThreads) {
    EXPECT_THAT(message_of([] { OpenMPExecutor{-2}; }), AllOf(HasSubstr("threads"), HasSubstr("-2")));
}
#endif

}  // namespace
}  // namespace freqkv
