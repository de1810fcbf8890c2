// SPDX-License-Identifier: MIT
#include "freqkv/policy/codec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "freqkv/policy/local_window.hpp"
#include "model_cache.hpp"

namespace freqkv {
namespace {

using testing_model::Text;

TEST(SpanReader, ShowsEntriesOfTheMiddleOfAList) {
    const Text text = Text::random(10);
    const naive::Rotary rotary = testing_model::naive_rotary(text);
    const Rope<float> rope(testing_model::rope_options(text), 4);  // a table too short for most positions
    const std::vector<Index> elsewhere{0, 5, 3, 100, 90, 1, 2, 50, 51, 7};
    for (const bool explicit_positions : {false, true}) {
        const std::span<const Index> positions = explicit_positions ? std::span(elsewhere) : std::span<const Index>();
        naive::Rows plain;
        std::vector<float> stored;  // every second element, head 1
        for (Index t = 0; t < 10; ++t) {
            plain.push_back({});
            for (Index d = 0; d < 8; ++d) plain.back().push_back(text.keys(t, 1).head(1)(0, d));
            const Index position = explicit_positions ? elsewhere[static_cast<std::size_t>(t)] : t;
            for (const double x : naive::rotated(plain.back(), position, rotary)) {
                stored.insert(stored.end(), {static_cast<float>(x), -1.0F});
            }
        }
        const MatrixView<const float> keys(stored.data(), 10, 8, 16, 2);
        const MatrixView<const float> values = text.values(0, 10).head(1);
        const SpanReader<float> span(1, keys, values, &rope, positions, 3, 5, {});
        EXPECT_EQ(span.head(), 1);
        EXPECT_EQ(span.size(), 5);
        EXPECT_EQ(span.key_dim(), 8);
        EXPECT_EQ(span.value_dim(), 6);
        EXPECT_EQ(span.first(), 3);
        EXPECT_EQ(span.list_size(), 10);
        EXPECT_EQ(span.list().size(), 10);
        EXPECT_EQ(span.list().position(3), span.position(0));
        EXPECT_EQ(span.rope(), &rope);
        EXPECT_EQ(span.queries().tokens(), 0);
        for (Index i = 0; i < 5; ++i) {
            SCOPED_TRACE("entry " + std::to_string(i));
            const auto entry = static_cast<std::size_t>(3 + i);
            EXPECT_EQ(span.position(i), explicit_positions ? elsewhere[entry] : 3 + i);
            std::array<float, 8> key{}, angles{};
            span.load_key(i, key.data(), angles.data());
            for (std::size_t d = 0; d < 8; ++d) EXPECT_NEAR(key[d], plain[entry][d], 1e-6) << "un-rotated";
            span.load_stored_key(i, key.data());
            for (std::size_t d = 0; d < 8; ++d) EXPECT_EQ(key[d], stored[16 * entry + 2 * d]) << "as stored";
            std::array<float, 6> value{};
            span.load_value(i, value.data());
            for (Index d = 0; d < 6; ++d) EXPECT_EQ(value[static_cast<std::size_t>(d)], values(3 + i, d));
        }
    }
}

TEST(SpanReader, TakesKeysThatAreNotRotatedAsTheyAre) {
    const std::vector<Eigen::half> keys{Eigen::half(1.0F), Eigen::half(2.0F), Eigen::half(3.0F), Eigen::half(4.0F)};
    const MatrixView<const Eigen::half> rows(keys.data(), 2, 2);
    const SpanReader<Eigen::half> span(0, rows, rows, nullptr, {}, 0, 2, {});
    EXPECT_EQ(span.rope(), nullptr);
    std::array<float, 2> key{};
    span.load_key(1, key.data(), nullptr);
    EXPECT_THAT(key, testing::ElementsAre(3, 4));
    span.load_stored_key(0, key.data());
    EXPECT_THAT(key, testing::ElementsAre(1, 2));
}

TEST(QueryWindow, IsOldestFirst) {
    std::vector<float> ring(4 * 2 * 3);                                                 // [window, heads, dim]
    for (std::size_t i = 0; i < ring.size(); ++i) ring[i] = static_cast<float>(i / 3);  // row: slot * heads + head
    const auto window = [&](Index seen) { return QueryWindow<float>{ring.data(), 4, 2, 3, seen}; };
    EXPECT_EQ(window(0).tokens(), 0);
    EXPECT_EQ(window(3).tokens(), 3);
    EXPECT_EQ(window(10).tokens(), 4);
    EXPECT_EQ(*window(3).query(0, 1), 1) << "token 0 in slot 0";
    EXPECT_EQ(*window(3).query(2, 0), 4) << "token 2 in slot 2";
    EXPECT_EQ(*window(10).query(0, 0), 4) << "token 6 in slot 2";
    EXPECT_EQ(*window(10).query(3, 1), 3) << "token 9 in slot 1";
}

}  // namespace
}  // namespace freqkv
