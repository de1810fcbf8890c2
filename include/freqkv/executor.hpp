// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <exception>
#include <mutex>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace freqkv {

/// Runs independent tasks: for_each(count, f) calls f(task, worker) once for every task in
/// [0, count) and returns when all are done; worker is in [0, concurrency()), and no two tasks run
/// at the same time under the same worker number (it selects scratch memory). The library calls it
/// from one thread at a time, never nested, and its tasks never throw. Which worker runs which task
/// cannot change a result. A thread pool of the caller's own fits with a few lines:
///
///     struct PoolExecutor {
///         MyPool& pool;
///         Index concurrency() const { return pool.thread_count(); }
///         template <class F> void for_each(Index count, F&& f) const {
///             pool.run(count, [&](Index task, Index thread) { f(task, thread); });
///         }
///     };
template <class E>
concept Executor = requires(const E& e, Index count, void (&f)(Index, Index)) {
    { e.concurrency() } -> std::convertible_to<Index>;
    e.for_each(count, f);
};

/// All tasks in order on the calling thread.
struct SerialExecutor {
    Index concurrency() const { return 1; }

    template <class F>
    void for_each(Index count, F&& f) const {
        for (Index task = 0; task < count; ++task) f(task, Index{0});
    }
};

#if defined(_OPENMP)
/// OpenMP threads; only where the including program is compiled with OpenMP.
class OpenMPExecutor {
public:
    /// `threads` 0 means what OpenMP would take by itself (OMP_NUM_THREADS or all cores).
    explicit OpenMPExecutor(int threads = 0) : threads_(threads > 0 ? threads : omp_get_max_threads()) {
        require(threads >= 0, "threads", threads, "must not be negative");
    }

    Index concurrency() const { return threads_; }

    template <class F>
    void for_each(Index count, F&& f) const {
        if (count <= 1 || threads_ == 1) return SerialExecutor{}.for_each(count, f);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
        for (Index task = 0; task < count; ++task) f(task, static_cast<Index>(omp_get_thread_num()));
    }

private:
    int threads_;
};
#endif

/// for_each() for tasks that may throw: the other tasks still run, then the exception of the lowest-numbered failed
/// task is rethrown, so that the outcome does not depend on timing.
template <Executor E, class F>
void for_each_catching(const E& executor, Index count, F&& f) {
#if defined(__cpp_exceptions)
    std::mutex mutex;
    std::exception_ptr error;
    Index failed = count;
    executor.for_each(count, [&](Index task, Index worker) {
        try {
            f(task, worker);
        } catch (...) {
            const std::lock_guard lock(mutex);
            if (task < failed) {
                failed = task;
                error = std::current_exception();
            }
        }
    });
    if (error) std::rethrow_exception(error);
#else
    executor.for_each(count, f);
#endif
}

}  // namespace freqkv
