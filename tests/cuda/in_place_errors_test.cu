// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cuda/in_place_cases.cuh"
#include "device_tests.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/policy/schedule.hpp"

namespace freqkv::cuda::in_place_test {
namespace {

using testing::HasSubstr;

// One list of 40 tokens that nothing may change.
template <class View>
class RefusedCalls : public testing::Test {
protected:
    static constexpr Place place = std::is_same_v<View, KVView<float>> ? Place::strided : Place::pages_by_token;

    RefusedCalls() {
        lists_.fill({from_zero(40)}, {}, 8);
        before_.fill({from_zero(40)}, {}, 8);
    }

    View keys() const { return lists_[0].keys.template as<View>(); }
    View values() const { return lists_[0].values.template as<View>(); }

    std::string message(const View& keys, const View& values, const InPlaceOptions& options = {},
                        Index compressions = 0) {
        const ForeignList<View> list{keys, values, nullptr, compressions};
        return message_of_lists(std::span(&list, 1), options);
    }

    std::string message_of_lists(std::span<const ForeignList<View>> lists, const InPlaceOptions& options = {}) {
        const std::string result = message_of([&] { compressor_.compress(lists, options); });
        lists_.download();
        if (result != "accepted") {
            EXPECT_TRUE(lists_[0].keys.bits() == before_[0].keys.bits()) << result;
            EXPECT_TRUE(lists_[0].values.bits() == before_[0].values.bits()) << result;
        }
        return result;
    }

private:
    Lists<float> lists_{{{.tokens = 40}}, place};
    Lists<float> before_{{{.tokens = 40}}, place};
    InPlaceCompressor<float> compressor_{LowPass<>(0.5), Rope({.head_dim = 16})};
};

template <class View>
class RefusedViews : public RefusedCalls<View> {};
using ViewTypes = testing::Types<KVView<float>, PagedKVView<float>>;
TYPED_TEST_SUITE(RefusedViews, ViewTypes);

TYPED_TEST(RefusedViews, AreNamedAndNothingIsLaunched) {
    using View = TypeParam;
    const View keys = this->keys();
    const View values = this->values();
    EXPECT_EQ(this->message(with(keys, &View::data, nullptr), values), "freqkv: data of keys is 0, must not be null");
    EXPECT_EQ(this->message(keys, with(values, &View::data, nullptr)), "freqkv: data of values is 0, must not be null");
    const auto odd = reinterpret_cast<float*>(reinterpret_cast<char*>(keys.data) + 1);
    EXPECT_THAT(this->message(with(keys, &View::data, odd), values),
                testing::AllOf(testing::StartsWith("freqkv: address of keys is "),
                               testing::EndsWith(", must be a multiple of the element's size, 4")));
    EXPECT_EQ(this->message(with(keys, &View::heads, 0), values), "freqkv: heads of keys is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(this->message(with(keys, &View::tokens, 0), values),
              "freqkv: tokens of keys is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(this->message(keys, with(values, &View::head_dim, -1)),
              "freqkv: head_dim of values is -1, must be 1 to 2^20");
    EXPECT_EQ(this->message(keys, with(values, &View::heads, 1)),
              "freqkv: heads of values is 1, must be those of keys");
    EXPECT_EQ(this->message(keys, with(values, &View::tokens, 39)),
              "freqkv: tokens of values is 39, must be those of keys");
    EXPECT_EQ(this->message(with(keys, &View::head_dim, 8), values),
              "freqkv: head_dim of keys is 8, must be that of the rope");
    EXPECT_EQ(this->message(with(keys, &View::token_stride, Index{1} << 41), values),
              "freqkv: a stride of keys is 2199023255552, must be within 2^40");
    EXPECT_THAT(
        this->message(with(keys, &View::token_stride, 1), values),
        testing::AllOf(testing::StartsWith("freqkv: strides of keys is "), testing::EndsWith(" a place of its own")));

    EXPECT_EQ(this->message(keys, values, {.sinks = -1}),
              "freqkv: sinks is -1, must not be negative and must be below the number of tokens");
    EXPECT_THAT(this->message(keys, values, {.sinks = 40}), testing::StartsWith("freqkv: sinks is 40, "));
    EXPECT_EQ(this->message(keys, values, {.sinks = 4, .recent = 36}),
              "freqkv: recent is 36, must not be negative and must be below the number of tokens less the sinks");
    EXPECT_THAT(this->message(keys, values, {.sinks = 4, .recent = -2}), testing::StartsWith("freqkv: recent is -2, "));
    EXPECT_THAT(this->message(keys, values, {.sinks = 4, .recent = 35}),
                HasSubstr("capacity is 40, must be at least sinks + recent + 2"));
    EXPECT_EQ(this->message(keys, values, {}, -1), "freqkv: compressions is -1, must not be negative");

    if (!reaches_all_memory()) {
        std::vector<float> host(4096);
        EXPECT_EQ(this->message(keys, with(values, &View::data, host.data())),
                  "freqkv: data of values is in host memory, must be on the device, managed or allocated by "
                  "cudaMallocHost");
        const std::vector<Index> positions = from_zero(40);
        const ForeignList<View> list{keys, values, positions.data()};
        EXPECT_THAT(this->message_of_lists(std::span(&list, 1)),
                    testing::StartsWith("freqkv: positions of a list is in host memory, "));
    }

    // The second of two lists is wrong; nor is the first compressed.
    Lists<float> another({{.tokens = 40}}, this->place);
    const ForeignList<View> lists[]{
        {keys, values},
        {another[0].keys.template as<View>(), with(another[0].values.template as<View>(), &View::heads, 1)}};
    EXPECT_EQ(this->message_of_lists(lists), "freqkv: heads of values is 1, must be those of keys");
    EXPECT_EQ(this->message(keys, values), "accepted");
}

class RefusedStridedViews : public RefusedCalls<KVView<float>> {};

TEST_F(RefusedStridedViews, MustBeApart) {
    const std::string apart = " must not be: one call works on both at the same time";
    const KVView<float> keys = this->keys();
    const KVView<float> values = this->values();
    EXPECT_THAT(message(keys, keys), testing::EndsWith(apart)) << "keys and values are the same";
    // One dimension is in both.
    EXPECT_THAT(message(keys, with(values, &KVView<float>::data, values.data - 1)), testing::EndsWith(apart));
    const ForeignList<KVView<float>> twice[]{{keys, values}, {keys, values}};
    EXPECT_THAT(message_of_lists(twice), testing::EndsWith(apart));
    EXPECT_EQ(message(keys, values), "accepted") << "though they lie between each other";
}

class RefusedPages : public RefusedCalls<PagedKVView<float>> {};

TEST_F(RefusedPages, AreNamed) {
    using View = PagedKVView<float>;
    const View keys = this->keys();  // in 3 pages of 16 and one that is empty
    const View values = this->values();
    EXPECT_EQ(message(with(keys, &View::block_table, nullptr), values),
              "freqkv: block_table of keys is 0, must not be null");
    const auto odd = reinterpret_cast<const std::int32_t*>(reinterpret_cast<const char*>(values.block_table) + 2);
    EXPECT_THAT(message(keys, with(values, &View::block_table, odd)),
                testing::AllOf(testing::StartsWith("freqkv: address of the block_table of values is "),
                               testing::EndsWith(", must be a multiple of 4")));
    if (!reaches_all_memory()) {
        const std::vector<std::int32_t> host{0, 1, 2, 3};
        EXPECT_EQ(message(keys, with(values, &View::block_table, host.data())),
                  "freqkv: block_table of values is in host memory, must be on the device, managed or allocated by "
                  "cudaMallocHost");
    }
    EXPECT_EQ(message(with(keys, &View::tokens, 65), with(values, &View::tokens, 65)),
              "freqkv: tokens of keys is 65, must not be above the room in its pages, 64");
    EXPECT_EQ(message(with(keys, &View::table_pages, 2), values),
              "freqkv: tokens of keys is 40, must not be above the room in its pages, 32");
    EXPECT_EQ(message(keys, with(values, &View::table_pages, -1)),
              "freqkv: table_pages of values is -1, must be 0 to 2^31 - 1");
    EXPECT_EQ(message(with(keys, &View::page_tokens, 12), values),
              "freqkv: page_tokens of keys is 12, must be a power of two up to 2^20");
    EXPECT_EQ(message(with(keys, &View::page_tokens, 0), values),
              "freqkv: page_tokens of keys is 0, must be a power of two up to 2^20");
    EXPECT_EQ(message(keys, with(values, &View::page_tokens, 32)),
              "freqkv: page_stride of values is 512, must step over a page, which reaches over 768 elements");
    EXPECT_EQ(message(with(keys, &View::page_stride, 511), values),
              "freqkv: page_stride of keys is 511, must step over a page, which reaches over 512 elements");
    EXPECT_EQ(message(with(with(keys, &View::page_tokens, 8), &View::table_pages, 5), values),
              "freqkv: page_tokens of values is 16, must be those of keys");
    EXPECT_EQ(message(keys, keys), "freqkv: data of values is 0, must not be that of keys");
    EXPECT_EQ(message(keys, values), "accepted");
}

TEST(DeviceInPlaceErrors, OfScheduleAndRope) {
    Lists<float> lists({{.tokens = 20}}, Place::strided);
    const KVView<float> keys = lists[0].keys.strided();
    const KVView<float> values = lists[0].values.strided();
    InPlaceCompressor<float> greedy(LowPass<>(1.5));
    EXPECT_THAT([&] { greedy.compress(keys, values); }, refuses("ratio is 1.500000, must be above 0 and below 1"));
    EXPECT_THAT([&] { greedy.make_plans(20); }, refuses("ratio is 1.500000, must be above 0 and below 1"));
    struct AllEntries {
        SpanList plan(const CacheLayout& layout, Index) const { return {{0, layout.entries, 2}}; }
    };
    struct Outside {
        AllEntries schedule;
        FrequencyCodec<> codec;
    };
    InPlaceCompressor<float, Outside> outside;
    EXPECT_THAT([&] { outside.compress(keys, values); }, refuses("begin of a span is 0"));
    EXPECT_THAT([] { Rope({.head_dim = 7, .rotated_dims = 8}); }, refuses("rotated_dims is 8"));
    EXPECT_THAT([] { Rope({.head_dim = 8, .base = 0}); }, refuses("base is 0"));
    // Longer than any transform: 20000 tokens.
    InPlaceCompressor<float> compressor;
    EXPECT_THAT([&] { compressor.make_plans(20000); }, refuses("n is 19996, must be 1 to 16384 on a device"));
}

}  // namespace
}  // namespace freqkv::cuda::in_place_test
