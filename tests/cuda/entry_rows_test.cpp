// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/resample_cases.hpp"
#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/transform/resample.hpp"
#include "freqkv/cuda/paged_view.hpp"

namespace freqkv::cuda::resample_test {
namespace {

using detail::Columns;
using detail::ResampleTask;

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

}  // namespace
}  // namespace freqkv::cuda::resample_test
