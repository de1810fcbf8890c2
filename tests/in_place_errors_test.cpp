// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "foreign_cache.hpp"
#include "freqkv/in_place.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"

namespace freqkv::in_place_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct BrokenSelection {
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        if (span.head() == 1) throw std::runtime_error("no choice");
        return SelectLatest{}.select(span, keep, chosen, scratch);
    }
};
struct BrokenWindow {
    WholeSpan schedule;
    BrokenSelection codec;
};

TEST(InPlaceErrors, NameWhatIsWrongAndChangeNothing) {
    const Shape shape{.tokens = 20};
    const RopeOptions rope_options_12 = rope_options(shape, RopePairing::adjacent, 12);
    ForeignCache<float> cache(shape, Layout::token_major);
    fill(cache, positions_from_zero(20), rope_options_12, 8);
    const std::vector<float> before = cache.bytes();
    InPlaceCompressor<float> compressor(LowPass<>(0.5), Rope<float>(rope_options_12, 20));

    const auto message = [&](KVView<float> keys, KVView<float> values, const InPlaceOptions& options) -> std::string {
        try {
            compressor.compress(keys, values, options);
        } catch (const Error& error) {
            EXPECT_TRUE(cache.holds(before)) << error.what();
            return error.what();
        }
        return "accepted";
    };
    const auto with = [](KVView<float> view, auto member, auto value) {
        view.*member = value;
        return view;
    };
    const KVView<float> keys = cache.keys;
    const KVView<float> values = cache.values;
    using View = KVView<float>;
    EXPECT_EQ(message(with(keys, &View::data, nullptr), values, {}), "freqkv: data of keys is 0, must not be null");
    EXPECT_EQ(message(keys, with(values, &View::data, nullptr), {}), "freqkv: data of values is 0, must not be null");
    EXPECT_EQ(message(with(keys, &View::heads, 0), with(values, &View::heads, 0), {}),
              "freqkv: heads of keys is 0, must be at least 1");
    EXPECT_EQ(message(with(keys, &View::head_dim, 0), values, {}), "freqkv: head_dim of keys is 0, must be at least 1");
    EXPECT_EQ(message(keys, with(values, &View::head_dim, -1), {}),
              "freqkv: head_dim of values is -1, must be at least 1");
    EXPECT_EQ(message(keys, with(values, &View::heads, 1), {}), "freqkv: heads of values is 1, must be those of keys");
    EXPECT_EQ(message(keys, with(values, &View::tokens, 19), {}),
              "freqkv: tokens of values is 19, must be those of keys");
    EXPECT_EQ(message(with(keys, &View::head_dim, 8), values, {}),
              "freqkv: head_dim of keys is 8, must be that of the rope");
    EXPECT_THAT(message(keys, values, {.sinks = -1}), HasSubstr("sinks is -1, must not be negative"));
    EXPECT_THAT(message(keys, values, {.sinks = 20}), HasSubstr("sinks is 20, must not be negative and must be below"));
    EXPECT_THAT(message(keys.middle_tokens(0, 0), values.middle_tokens(0, 0), {.sinks = 0}), HasSubstr("sinks is 0"));
    EXPECT_THAT(message(keys, values, {.sinks = 0, .recent = -2}), HasSubstr("recent is -2, must not be negative"));
    EXPECT_THAT(message(keys, values, {.sinks = 4, .recent = 16}), HasSubstr("recent is 16, must not be negative and"));
    EXPECT_THAT(message(keys, values, {.compressions = -1}), HasSubstr("compressions is -1, must not be negative"));
    const std::vector<Index> few(19);
    EXPECT_EQ(message(keys, values, {.positions = few}),
              "freqkv: number of positions is 19, must be 0 or the number of tokens");
    EXPECT_THAT(message(keys, values, {.sinks = 4, .recent = 15}),
                HasSubstr("capacity is 20, must be at least sinks + recent + 2"));
    EXPECT_THAT(compressor.sizes(), ElementsAre()) << "nothing has been compressed";
    EXPECT_EQ(message(keys, values, {.sinks = 4, .recent = 2}), "accepted");
    EXPECT_THAT(compressor.sizes(), ElementsAre(13, 13));
}

TEST(InPlaceErrors, OfThePolicyChangeNothing) {
    const Shape shape{.tokens = 20};
    ForeignCache<float> cache(shape, Layout::transposed);
    fill(cache, positions_from_zero(20), rope_options(shape, RopePairing::adjacent, 0), 8);
    const std::vector<float> before = cache.bytes();
    InPlaceCompressor<float, BrokenWindow> broken;
    EXPECT_THROW(broken.compress(cache.keys, cache.values), std::runtime_error);
    EXPECT_TRUE(cache.holds(before)) << "head 0 alone could have been compressed";
    EXPECT_THAT(broken.sizes(), ElementsAre());
    EXPECT_EQ(broken.compress(KVView<float>(cache.keys.data, 1, 20, 12, 0, 1, 25),
                              KVView<float>(cache.values.data, 1, 20, 10, 0, 1, 25)),
              12);
    EXPECT_THAT(broken.sizes(), ElementsAre(12));
    const std::vector<float> after = cache.bytes();
    EXPECT_THROW(broken.compress(cache.keys, cache.values), std::runtime_error);
    EXPECT_TRUE(cache.holds(after));
    EXPECT_THAT(broken.sizes(), ElementsAre(12)) << "of the latest compression that took place";

    InPlaceCompressor<float> greedy(LowPass<>(1.5));
    EXPECT_THAT([&] { greedy.compress(cache.keys, cache.values); },
                testing::ThrowsMessage<Error>(HasSubstr("ratio is 1.500000, must be above 0 and below 1")));
    EXPECT_TRUE(cache.holds(after));
}

}  // namespace
}  // namespace freqkv::in_place_test
