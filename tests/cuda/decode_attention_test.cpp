// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/attention/decode_attention.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/attention_case.hpp"
#include "cuda/checked_floats.hpp"
#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/cache/append_rows.hpp"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/rope_options.hpp"
#include "naive.hpp"

// Decode attention and appending as the kernels do it, on the host.
namespace freqkv::cuda {
namespace {

using detail::Columns;
using detail::DecodeTask;
using detail::FloatPair;

template <int Heads, class Q, class T>
void decode_in_blocks(const DecodeTask<Q, T>& task, CallOrder order) {
    for (int s = 0; s < task.tokens; ++s) {
        for (int h = 0; h < task.kv_heads; ++h) {
            for (int first = 0; first < task.group; first += Heads) {
                for (int stretch = 0; stretch < task.stretches(); ++stretch) {
                    const SerialBlock block(order);
                    const CheckedFloats memory(detail::decode_floats(Heads, task.key_dim, task.value_dim), block);
                    detail::attend_stretch<Heads>(task, s, h, first, stretch, block, memory);
                }
            }
        }
        for (int h = 0; h < task.kv_heads * task.group; ++h) {
            detail::combine_stretches(task, s, h, SerialBlock(order));
        }
    }
}

template <class T>
class CudaDecode : public testing::Test {};
using Stored = testing::Types<float, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(CudaDecode, Stored);

TYPED_TEST(CudaDecode, IsTheSoftmaxOverWhatCameBefore) {
    using T = TypeParam;
    for (const AttentionShape& c :
         {AttentionShape{2, 1, 8, 8, RopePairing::adjacent, 8}, AttentionShape{2, 3, 16, 8, RopePairing::half_split, 8},
          AttentionShape{1, 5, 7, 5, RopePairing::adjacent, 6},
          AttentionShape{1, 8, 8, 12, RopePairing::half_split, 0}}) {
        SCOPED_TRACE(std::to_string(c.kv_heads) + " KV heads, " + std::to_string(c.group) + " queries each, " +
                     std::to_string(c.key_dim) + " and " + std::to_string(c.value_dim) + " dimensions");
        const std::vector<detail::TokenPlace> places{{2, 0}, {0, 0}, {1, 1}, {1, 0}};
        const int tokens = static_cast<int>(places.size());
        AttentionCase<float, T> attention(c, 300, tokens, {0, 127, 290});
        DecodeTask<float, T> task;
        attention.describe(task);
        task.places = places.data();
        task.tokens = tokens;
        std::vector<float> parts(static_cast<std::size_t>(task.parts_size()), -7);
        task.parts = parts.data();
        std::vector<float> first;
        for (const bool wide : {false, true}) {
            if (wide && (c.key_dim % 8 != 0 || c.value_dim % 4 != 0)) continue;
            for (const CallOrder order : {CallOrder::forwards, CallOrder::shuffled}) {
                std::fill(attention.results().begin(), attention.results().end(), -7.0F);
                task.wide = wide;
                if (c.group <= 1) {
                    decode_in_blocks<1>(task, order);
                } else if (c.group <= 3) {
                    decode_in_blocks<2>(task, order);
                } else {
                    decode_in_blocks<4>(task, order);
                }
                if (order == CallOrder::shuffled) {
                    ASSERT_EQ(attention.results(), first) << "the order of threads changes nothing";
                    continue;
                }
                first = attention.results();
                for (int s = 0; s < tokens; ++s) {
                    const detail::TokenPlace place = places[static_cast<std::size_t>(s)];
                    for (int h = 0; h < attention.query_heads(); ++h) {
                        EXPECT_THAT(attention.result(s, h),
                                    testing::Pointwise(testing::DoubleNear(1e-5),
                                                       attention.expected(s, h, place.list, place.behind)))
                            << "token " << s << ", head " << h;
                    }
                }
            }
        }
    }
}

TEST(CudaAppend, RotatesEachTokenWhereItWillStand) {
    for (const bool pairs : {false, true}) {
        const Index heads = 2;
        const Index capacity = 9;
        const Index tokens = 5;
        const Index dims = 8;
        const std::int32_t size = 3;
        naive::Random next(5);
        std::vector<float> fresh(static_cast<std::size_t>(heads * tokens * dims));
        for (float& value : fresh) value = static_cast<float>(next());
        std::vector<Eigen::half> cache(static_cast<std::size_t>(heads * capacity * dims), Eigen::half(-77));
        const RopeOptions options{.head_dim = dims, .rotated_dims = 6, .pairing = RopePairing::adjacent};
        const std::vector<std::uint64_t> turns = detail::rope_frequencies_in_turns(rope_frequencies(options));
        const Columns columns{static_cast<int>(dims), 3, false};
        detail::AppendTask<float, Eigen::half> task;
        task.from = detail::rows_of(KVView<const float>::token_major(fresh.data(), heads, tokens, dims), columns);
        task.to = detail::rows_of(KVView<Eigen::half>(cache.data(), heads, capacity, dims), columns);
        task.heads = static_cast<int>(heads);
        task.count = static_cast<int>(tokens);
        task.capacity = static_cast<int>(capacity);
        task.size = &size;
        task.frequencies = turns.data();
        for (int h = 0; h < heads; ++h) {
            if (pairs) {
                detail::append_rows<FloatPair>(task, h, 0, 1, 0, 5, SerialBlock(CallOrder::shuffled));
            } else {
                detail::append_rows<float>(task, h, 0, 2, 0, 2, SerialBlock(CallOrder::shuffled));
                detail::append_rows<float>(task, h, 0, 2, 2, 3, SerialBlock(CallOrder::shuffled));
            }
        }
        for (Index h = 0; h < heads; ++h) {
            for (Index e = 0; e < capacity; ++e) {
                naive::Row want(static_cast<std::size_t>(dims), -77);
                if (e >= size && e < size + tokens) {
                    for (Index d = 0; d < dims; ++d) {
                        want[static_cast<std::size_t>(d)] =
                            static_cast<double>(fresh[static_cast<std::size_t>(((e - size) * heads + h) * dims + d)]);
                    }
                    want = naive::rotated(want, e, {6, options.base, true});
                }
                for (Index d = 0; d < dims; ++d) {
                    ASSERT_NEAR(static_cast<double>(cache[static_cast<std::size_t>((h * capacity + e) * dims + d)]),
                                want[static_cast<std::size_t>(d)], 1e-3)
                        << "head " << h << ", entry " << e;
                }
            }
        }
    }
}

}  // namespace
}  // namespace freqkv::cuda
