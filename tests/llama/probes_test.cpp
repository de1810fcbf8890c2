// SPDX-License-Identifier: MIT
#include "llama/evaluation/probes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "freqkv/error.hpp"
#include "llama/tokenizers/fingerprint.hpp"
#include "message_of.hpp"

namespace llama {
namespace {

using freqkv::test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<Token> tokens_from(Token first, Index count) {
    std::vector<Token> tokens(static_cast<std::size_t>(count));
    std::iota(tokens.begin(), tokens.end(), first);
    return tokens;
}

// Reads the pairs one after the other: the latest value of each key, and where it stands.
void expect_recall(const Probe& probe, const RecallShape& shape, const std::vector<Token>& allowed) {
    const auto pairs_end = static_cast<std::size_t>(2 * (shape.pairs + shape.reassigned));
    std::map<Token, std::size_t> latest;
    std::set<Token> values;
    Index again = 0;
    for (std::size_t i = 0; i < pairs_end; i += 2) {
        again += latest.contains(probe.tokens[i]) ? 1 : 0;
        latest[probe.tokens[i]] = i + 1;
        EXPECT_TRUE(values.insert(probe.tokens[i + 1]).second) << "a value twice";
    }
    EXPECT_EQ(again, shape.reassigned);
    EXPECT_EQ(static_cast<Index>(latest.size()), shape.pairs);

    ASSERT_EQ(static_cast<Index>(probe.tokens.size()), shape.tokens);
    ASSERT_EQ(probe.targets.size(), latest.size());
    ASSERT_EQ(probe.distances.size(), latest.size());
    EXPECT_TRUE(std::is_sorted(probe.targets.begin(), probe.targets.end()));
    std::set<Token> asked;
    std::set<std::size_t> answered;
    for (std::size_t t = 0; t < probe.targets.size(); ++t) {
        const auto target = static_cast<std::size_t>(probe.targets[t]);
        ASSERT_GT(target, pairs_end);
        ASSERT_LT(target, probe.tokens.size());
        const Token key = probe.tokens[target - 1];
        ASSERT_TRUE(latest.contains(key));
        EXPECT_TRUE(asked.insert(key).second);
        EXPECT_EQ(probe.tokens[target], probe.tokens[latest[key]]);
        EXPECT_EQ(probe.distances[t], static_cast<Index>(target - latest[key]));
        answered.insert({target - 1, target});
    }
    for (std::size_t i = 0; i < probe.tokens.size(); ++i) {
        const Token token = probe.tokens[i];
        EXPECT_TRUE(std::find(allowed.begin(), allowed.end(), token) != allowed.end());
        if (i < pairs_end || answered.contains(i)) continue;
        EXPECT_FALSE(latest.contains(token) || values.contains(token)) << "filler that is a key or a value";
    }
}

TEST(RecallProbe, TargetsAreTheLatestValues) {
    const std::vector<Token> allowed = tokens_from(100, 1000);
    for (const RecallShape& shape :
         {RecallShape{4, 1}, RecallShape{5, 1}, RecallShape{6, 1, 1}, RecallShape{64, 8}, RecallShape{101, 8, 4},
          RecallShape{1024, 256}, RecallShape{512, 64, 64}, RecallShape{384, 64, 64}, RecallShape{8192, 100, 30}}) {
        for (std::uint64_t seed = 0; seed < 5; ++seed) {
            expect_recall(make_recall_probe(shape, allowed, seed), shape, allowed);
        }
    }
    const RecallShape whole{40, 8, 4};
    const std::vector<Token> fewest = tokens_from(0, 2 * 8 + 4 + 1);
    expect_recall(make_recall_probe(whole, fewest, 1), whole, fewest);
}

TEST(RecallProbe, NearPlacesAreMoreFrequent) {
    constexpr int trials = 20'000;
    const std::vector<Token> allowed = tokens_from(0, 10);
    std::map<Index, int> counts;  // of the places behind the pair
    for (std::uint64_t seed = 0; seed < trials; ++seed) {
        ++counts[(make_recall_probe({18, 1}, allowed, seed).targets.at(0) - 3) / 2];
    }
    double sum = 0;
    for (int i = 1; i <= 8; ++i) sum += 1.0 / i;
    for (int i = 0; i < 8; ++i) EXPECT_NEAR(counts[i], trials / (sum * (i + 1)), 200) << i;
}

TEST(RecallProbe, IsTheSameForASeed) {
    const std::vector<Token> allowed = tokens_from(5, 500);
    const RecallShape shape{512, 64, 32};
    std::set<std::vector<Token>> different;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        const Probe probe = make_recall_probe(shape, allowed, seed);
        EXPECT_EQ(probe.tokens, make_recall_probe(shape, allowed, seed).tokens);
        different.insert(probe.tokens);
    }
    EXPECT_EQ(different.size(), 10U);
    EXPECT_EQ(fingerprint(make_recall_probe(shape, allowed, 42).tokens), 8507647419993517457U);
}

TEST(RecallProbe, RefusesWhatCannotBe) {
    const std::vector<Token> allowed = tokens_from(0, 21);
    const auto refused = [&](const RecallShape& shape) {
        return message_of([&] { make_recall_probe(shape, allowed, 1); });
    };
    EXPECT_EQ(refused({40, 8, 4}), "accepted");
    EXPECT_EQ(refused({39, 8, 4}), "freqkv: tokens is 39, must be at least 4 pairs + 2 reassigned");
    EXPECT_EQ(refused({40, 0}), "freqkv: pairs is 0, must be at least 1");
    EXPECT_EQ(refused({40, 4, 5}), "freqkv: reassigned is 5, must be 0 to the pairs");
    EXPECT_EQ(refused({40, 4, -1}), "freqkv: reassigned is -1, must be 0 to the pairs");
    EXPECT_EQ(refused({100, 8, 5}), "freqkv: allowed tokens is 21, must be more than 2 pairs + reassigned");
    std::vector<Token> twice = allowed;
    twice[20] = 7;
    EXPECT_THAT(message_of([&] { make_recall_probe({40, 4, 2}, twice, 1); }),
                HasSubstr("an allowed token is 7, must be allowed once"));
}

TEST(PassageProbe, ComesAgain) {
    const std::vector<Token> text = tokens_from(0, 12);
    const Probe probe = make_passage_probe({.begin = 2, .length = 3, .distance = 5}, text);
    EXPECT_THAT(probe.tokens, ElementsAre(0, 1, 2, 3, 4, 5, 6, 2, 3, 4));
    EXPECT_THAT(probe.targets, ElementsAre(8, 9));
    EXPECT_THAT(probe.distances, ElementsAre(5, 5));
}

TEST(PassageProbe, TargetsStandBefore) {
    const std::vector<Token> text = tokens_from(50, 300);
    for (const PassageShape& shape :
         {PassageShape{0, 2, 2}, PassageShape{0, 300, 300}, PassageShape{17, 40, 100}, PassageShape{100, 30, 200}}) {
        const Probe probe = make_passage_probe(shape, text);
        EXPECT_EQ(static_cast<Index>(probe.tokens.size()), shape.begin + shape.distance + shape.length);
        EXPECT_EQ(static_cast<Index>(probe.targets.size()), shape.length - 1);
        for (std::size_t t = 0; t < probe.targets.size(); ++t) {
            const auto target = static_cast<std::size_t>(probe.targets[t]);
            const std::size_t source = target - static_cast<std::size_t>(probe.distances.at(t));
            EXPECT_EQ(probe.tokens.at(target), text.at(source));
            EXPECT_EQ(probe.tokens.at(target - 1), text.at(source - 1));
        }
    }
}

TEST(PassageProbe, RefusesWhatTheTextDoesNotHave) {
    const std::vector<Token> text = tokens_from(0, 100);
    const auto refused = [&](const PassageShape& shape) {
        return message_of([&] { make_passage_probe(shape, text); });
    };
    EXPECT_EQ(refused({10, 20, 90}), "accepted");
    EXPECT_EQ(refused({10, 20, 91}), "freqkv: distance is 91, must not reach beyond the text's end");
    EXPECT_EQ(refused({10, 20, 19}), "freqkv: distance is 19, must be at least the length");
    EXPECT_EQ(refused({10, 1, 19}), "freqkv: length is 1, must be at least 2");
    EXPECT_EQ(refused({-1, 20, 90}), "freqkv: begin is -1, must be 0 to the text's tokens");
    EXPECT_EQ(refused({101, 20, 90}), "freqkv: begin is 101, must be 0 to the text's tokens");
}

}  // namespace
}  // namespace llama
