// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/cache/choose_entries.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda/serial_block.hpp"
#include "freqkv/config.hpp"
#include "freqkv/policy/select_highest.hpp"

// What a block of the device chooses, beside what the host does.
namespace freqkv::cuda {
namespace {

std::vector<Index> chosen_by_the_host(std::vector<float> scores, Index keep) {
    std::vector<Index> chosen(static_cast<std::size_t>(keep));
    std::vector<Index> order(scores.size());
    freqkv::detail::choose_highest(scores.data(), static_cast<Index>(scores.size()), keep, chosen.data(), order.data());
    return chosen;
}

// The numbers of a block's choice, for as long as they live.
struct BlocksChoice {
    BlocksChoice(std::vector<float> scores_, Index keep, Index exact, CallOrder order) : scores(std::move(scores_)) {
        choice.heads = 1;
        choice.length = static_cast<int>(scores.size());
        choice.keep = static_cast<int>(keep);
        choice.exact = static_cast<int>(exact);
        choice.scores = scores.data();
        numbers.assign(static_cast<std::size_t>(choice.head_numbers()), 1 << 30);
        choice.numbers = numbers.data();
        detail::choose_entries(choice, 0, SerialBlock(order));
    }

    std::vector<float> scores;
    std::vector<std::int32_t> numbers;
    detail::Choice choice;
};

std::vector<Index> chosen_by_a_block(const std::vector<float>& scores, Index keep, CallOrder order) {
    const BlocksChoice chosen(scores, keep, keep, order);
    return {chosen.choice.items(), chosen.choice.items() + keep};
}

void expect_the_same(const std::vector<float>& scores, Index keep) {
    for (const CallOrder order : {CallOrder::forwards, CallOrder::backwards, CallOrder::shuffled}) {
        ASSERT_EQ(chosen_by_a_block(scores, keep, order), chosen_by_the_host(scores, keep))
            << keep << " of " << scores.size();
    }
}

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

TEST(CudaChooseEntries, ChoosesWhatTheHostChooses) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const Index count : {2, 3, 7, 31, 64, 127, 128, 129, 255, 256, 257, 1000, 4099}) {
        std::vector<float> scores(static_cast<std::size_t>(count));
        for (float& score : scores) score = normal(random);
        for (const Index keep : {Index{1}, count / 3, count / 2, count - 1}) {
            if (keep == 0) continue;
            ASSERT_NO_FATAL_FAILURE(expect_the_same(scores, keep));
        }
    }
}

TEST(CudaChooseEntries, TakesTheLatestOfEqualScores) {
    std::mt19937 random(2);
    for (const Index count : {2, 5, 128, 300}) {
        std::vector<float> scores(static_cast<std::size_t>(count));
        for (float& score : scores) score = static_cast<float>(random() % 3) - 1;
        for (Index keep = 1; keep < count; keep += 1 + count / 9) {
            ASSERT_NO_FATAL_FAILURE(expect_the_same(scores, keep));
            ASSERT_NO_FATAL_FAILURE(expect_the_same(std::vector<float>(scores.size(), 1.5F), keep));
        }
    }
    ASSERT_NO_FATAL_FAILURE(expect_the_same({0.0F, -0.0F, 0.0F, -0.0F}, 2));
}

TEST(CudaChooseEntries, TakesNotANumberForTheLowestScore) {
    const std::vector<float> scores{nan,  -infinity, 3,      -nan, infinity, std::numeric_limits<float>::lowest(),
                                    -nan, 1e-45F,    -1e-45F};
    for (Index keep = 1; keep < static_cast<Index>(scores.size()); ++keep) {
        ASSERT_NO_FATAL_FAILURE(expect_the_same(scores, keep));
        ASSERT_NO_FATAL_FAILURE(expect_the_same(std::vector<float>(9, nan), keep));
    }
}

// As the host arranges exact and transformed entries (detail/cache/hybrid_engine.hpp), said once more.
TEST(CudaChooseEntries, ArrangesTheOthersBetweenTheChosen) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (const Index length : {2, 5, 64, 255, 257, 700}) {
        std::vector<float> scores(static_cast<std::size_t>(length));
        for (float& score : scores) score = normal(random);
        for (const Index keep : {Index{1}, length / 2, length - 1}) {
            for (const Index exact : {Index{0}, keep / 3, keep / 2, keep - 1}) {
                if (keep == 0 || exact >= keep) continue;
                SCOPED_TRACE(std::to_string(length) + " to " + std::to_string(keep) + ", exact " +
                             std::to_string(exact));
                const std::vector<Index> chosen = exact > 0 ? chosen_by_the_host(scores, exact) : std::vector<Index>{};
                std::vector<Index> others;
                for (Index i = 0; i < length; ++i) {
                    if (std::find(chosen.begin(), chosen.end(), i) == chosen.end()) others.push_back(i);
                }
                const Index rows = keep - exact;
                const Index rest = length - exact;
                std::map<Index, Index> by_place;  // what stands at each place that is left
                for (const Index i : chosen) by_place[i] = i;
                std::vector<Index> places;
                for (Index k = 0; k < rows; ++k) {
                    places.push_back(others[static_cast<std::size_t>((k * rest / rows + (k + 1) * rest / rows) / 2)]);
                    by_place[places.back()] = ~places.back();
                }
                std::vector<Index> items, ranks;
                for (const auto& [place, item] : by_place) {
                    if (item < 0) ranks.push_back(static_cast<Index>(items.size()));
                    items.push_back(item);
                }
                const BlocksChoice have(scores, keep, exact, CallOrder::shuffled);
                const auto numbers = [](const std::int32_t* from, Index count) {
                    return std::vector<Index>(from, from + count);
                };
                ASSERT_EQ(numbers(have.choice.items(), keep), items);
                ASSERT_EQ(numbers(have.choice.others(), rest), others);
                ASSERT_EQ(numbers(have.choice.places(), rows), places);
                ASSERT_EQ(numbers(have.choice.ranks(), rows), ranks);
            }
        }
    }
}

}  // namespace
}  // namespace freqkv::cuda
