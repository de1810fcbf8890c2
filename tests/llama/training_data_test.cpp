// SPDX-License-Identifier: MIT
#include "llama/training/training_data.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"
#include "llama/tokenizers/tokenizer_json.hpp"
#include "llama/training/instruction_records.hpp"
#include "llama/training/shuffled_order.hpp"

namespace llama {
namespace {

using test::refusal_of;
using test::tokenizer_fixture;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ShuffledOrder, HasEveryPlaceOnce) {
    for (const Index size : {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000, 1009}) {
        for (std::uint64_t key = 0; key < 5; ++key) {
            const ShuffledOrder order(size, key);
            std::vector<bool> seen(static_cast<std::size_t>(size));
            for (Index i = 0; i < size; ++i) {
                const Index place = order[i];
                ASSERT_TRUE(place >= 0 && place < size) << place;
                EXPECT_FALSE(seen[static_cast<std::size_t>(place)]) << place << " twice of " << size;
                seen[static_cast<std::size_t>(place)] = true;
            }
        }
    }
}

// In a random order the mean distance from the own place is a third of the size, that of neighbours too, and one
// number stays where it is.
TEST(ShuffledOrder, IsRandom) {
    constexpr Index size = 10'000;
    for (std::uint64_t key = 0; key < 8; ++key) {
        const ShuffledOrder order(size, key);
        const ShuffledOrder next(size, key + 1);
        double moved = 0, apart = 0;
        Index stayed = 0, same = 0;
        for (Index i = 0; i < size; ++i) {
            moved += std::abs(static_cast<double>(order[i] - i)) / size;
            apart += std::abs(static_cast<double>(order[i] - order[(i + 1) % size])) / size;
            stayed += order[i] == i ? 1 : 0;
            same += order[i] == next[i] ? 1 : 0;
        }
        EXPECT_NEAR(moved / size, 1.0 / 3, 0.01);
        EXPECT_NEAR(apart / size, 1.0 / 3, 0.01);
        EXPECT_LT(stayed, 8);
        EXPECT_LT(same, 8);
    }
}

// Each token is its own place in the text.
std::vector<Token> places(Index count) {
    std::vector<Token> tokens(static_cast<std::size_t>(count));
    std::iota(tokens.begin(), tokens.end(), 0);
    return tokens;
}

TEST(TrainingText, HasEveryTargetOnceInAnEpoch) {
    for (const Index length : {1, 2, 7, 16}) {
        for (const Index count :
             {length + 1, 2 * length - 1, 2 * length, 2 * length + 1, 10 * length + 3, Index{500}}) {
            if (count < length + 1) continue;
            const TrainingText text(places(count), length, 3, "text");
            for (Index epoch = 0; epoch < 6; ++epoch) {
                std::set<Token> targets;
                for (Index i = 0; i < text.examples_per_epoch(); ++i) {
                    const Example example = text.example(epoch * text.examples_per_epoch() + i);
                    ASSERT_EQ(static_cast<Index>(example.tokens.size()), length + 1);
                    EXPECT_EQ(example.first_target, 1);
                    EXPECT_EQ(example.targets(), length);
                    for (std::size_t t = 1; t < example.tokens.size(); ++t) {
                        EXPECT_EQ(example.tokens[t], example.tokens[t - 1] + 1) << "no piece of the text";
                        EXPECT_TRUE(targets.insert(example.tokens[t]).second) << example.tokens[t] << " again";
                    }
                }
                EXPECT_EQ(static_cast<Index>(targets.size()), *targets.rbegin() - *targets.begin() + 1) << "a gap";
                EXPECT_LT(count - 1 - static_cast<Index>(targets.size()), 2 * length);
            }
        }
    }
}

TEST(TrainingText, IsCutAndOrderedAnewInEachEpoch) {
    constexpr Index length = 8;
    const TrainingText text(places(1000), length, 3, "text");
    std::set<Token> phases;
    std::set<std::vector<Token>> orders;
    for (Index epoch = 0; epoch < 100; ++epoch) {
        std::vector<Token> order;
        order.reserve(static_cast<std::size_t>(text.examples_per_epoch()));
        for (Index i = 0; i < text.examples_per_epoch(); ++i) {
            order.push_back(text.example(epoch * text.examples_per_epoch() + i).tokens[0]);
        }
        phases.insert(*std::min_element(order.begin(), order.end()));
        orders.insert(order);
    }
    EXPECT_THAT(phases, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
    EXPECT_EQ(orders.size(), 100u);
}

TEST(TrainingText, DependsOnTheSeedAndTheNumberOnly) {
    const auto first_tokens = [](const TrainingText& text, bool backwards) {
        std::vector<Token> tokens(300);
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const std::size_t number = backwards ? tokens.size() - 1 - i : i;
            tokens[number] = text.example(static_cast<Index>(number)).tokens[0];
        }
        return tokens;
    };
    const TrainingText text(places(1000), 8, 3, "text");
    const TrainingText again(places(1000), 8, 3, "text");
    const TrainingText other(places(1000), 8, 4, "text");
    EXPECT_EQ(first_tokens(text, false), first_tokens(again, true));
    EXPECT_NE(first_tokens(text, false), first_tokens(other, false));
    EXPECT_EQ(text.fingerprint(), other.fingerprint());
    std::vector<Token> changed = places(1000);
    changed[500] = 0;
    EXPECT_NE(text.fingerprint(), TrainingText(changed, 8, 3, "text").fingerprint());
}

// The same sequences on every machine and in every version: training that was stopped must be able to go on.
TEST(TrainingText, KeepsItsOrder) {
    const TrainingText text(places(100), 8, 1, "text");
    std::vector<Token> starts(22);
    for (Index i = 0; i < 22; ++i) starts[static_cast<std::size_t>(i)] = text.example(i).tokens[0];
    EXPECT_THAT(starts, ElementsAre(46, 14, 6, 30, 38, 62, 54, 86, 22, 78, 70,  //
                                    51, 83, 59, 35, 3, 19, 75, 43, 67, 27, 11));
}

TEST(TrainingText, IsRefusedIfItIsShorterThanASequence) {
    EXPECT_THAT(refusal_of([] { TrainingText(places(8), 8, 1, "a.txt"); }),
                HasSubstr("a.txt: 8 tokens are fewer than the 8 + 1 that one sequence of --length 8 needs"));
    EXPECT_THAT(refusal_of([] { TrainingText({}, 8, 1, "a.txt"); }), HasSubstr("0 tokens"));
    EXPECT_EQ(refusal_of([] { TrainingText(places(9), 8, 1, "a.txt"); }), "accepted");
}

class InstructionRecordsTest : public testing::Test {
protected:
    std::string file(const std::string& content) const { return directory_.write("records.json", content); }

    InstructionRecords read(const std::string& content, Index length, std::uint64_t seed = 1, int threads = 1) const {
        return InstructionRecords(file(content), tokenizer_, 460, length, seed, threads);
    }

    std::string refusal(const std::string& content, Index length = 64) const {
        return refusal_of([&] { read(content, length); });
    }

    // What the tokens stand for, without BOS and EOS.
    std::string text_of(std::span<const Token> tokens) const {
        return test::decode_all(tokenizer_, std::vector<Token>(tokens.begin(), tokens.end()));
    }

    SentencePieceTokenizer tokenizer_{tokenizer_fixture("llama2/tokenizer.model")};
    test::TemporaryDirectory directory_;
};

TEST_F(InstructionRecordsTest, ScoreTheOutputAndTheEndOfTheText) {
    const InstructionRecords records =
        read(R"([{"instruction": "Add.", "input": "1 and 2", "output": "It is 3.", "source": 7}])", 300);
    ASSERT_EQ(records.examples_per_epoch(), 1);
    const Example example = records.example(0);
    const auto prompt = static_cast<std::size_t>(example.first_target);
    EXPECT_EQ(text_of(example.tokens.first(prompt)),
              "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n");
    EXPECT_EQ(text_of(example.tokens.first(prompt)), instruction_prompt("Add.", "1 and 2"));
    EXPECT_EQ(text_of(example.tokens), instruction_prompt("Add.", "1 and 2") + "It is 3.");
    EXPECT_EQ(example.tokens.front(), 1) << "no BOS";
    EXPECT_EQ(example.tokens.back(), 2) << "no EOS";
    EXPECT_EQ(records.cut(), 0);
    EXPECT_EQ(records.skipped(), 0);
    // One text: what a program feeds and expects.
    std::vector<Token> whole = tokenizer_.encode(instruction_prompt("Add.", "1 and 2") + "It is 3.");
    EXPECT_TRUE(std::equal(whole.begin(), whole.end(), example.tokens.begin() + 1));
}

TEST_F(InstructionRecordsTest, LeaveOutASectionWithoutInput) {
    EXPECT_EQ(instruction_prompt("Sing.", ""), "### Instruction:\nSing.\n\n### Response:\n");
    for (const char* const input : {"", R"("input": "", )", R"("input": null, )"}) {
        const InstructionRecords records =
            read(std::string(R"([{"instruction": "Sing.", )") + input + R"("output": "La"}])", 300);
        EXPECT_EQ(text_of(records.example(0).tokens), instruction_prompt("Sing.", "") + "La");
    }
}

TEST_F(InstructionRecordsTest, LoseTheMiddleOfTheirPromptFirst) {
    const std::string content = R"([{"instruction": "begin)" + std::string(500, 'x') + R"(end", "output": "answer"}])";
    for (const Index length : {90, 91, 120, 200}) {
        const InstructionRecords records = read(content, length);
        EXPECT_EQ(records.cut(), 1);
        const Example example = records.example(0);
        EXPECT_EQ(static_cast<Index>(example.tokens.size()), length + 1);
        const std::string text = text_of(example.tokens);
        EXPECT_THAT(text, testing::StartsWith("### Instruction:\nbegin"));
        EXPECT_THAT(text, testing::EndsWith("end\n\n### Response:\nanswer"));
        EXPECT_EQ(text_of(example.tokens.last(static_cast<std::size_t>(example.targets()))), "answer");
        EXPECT_EQ(example.tokens.back(), 2);
    }
}

TEST_F(InstructionRecordsTest, LoseTheEndOfAnOutputThatDoesNotFit) {
    const std::string content =
        R"([{"instruction": "I)" + std::string(400, 'i') + R"(", "output": "O)" + std::string(400, 'o') + R"("}])";
    const InstructionRecords records = read(content, 299);
    const Example example = records.example(0);
    EXPECT_EQ(example.tokens.size(), 300u);
    EXPECT_EQ(example.first_target, 75) << "the prompt keeps a quarter";
    EXPECT_NE(example.tokens.back(), 2) << "the text does not end there";
    EXPECT_THAT(text_of(example.tokens), testing::ContainsRegex("^### Instruction:\nIi+\n\n### Response:\nOo+$"));
    // Below the headings' length nothing of the prompt is left out.
    const InstructionRecords short_records = read(content, 70);
    const Example small = short_records.example(0);
    EXPECT_EQ(text_of(small.tokens.first(static_cast<std::size_t>(small.first_target))), instruction_prompt("", ""));
}

TEST_F(InstructionRecordsTest, AreSkippedWithoutOutput) {
    const InstructionRecords records = read(
        R"([{"instruction": "a", "output": ""}, {"instruction": "b", "output": "B"}, {"instruction": "", "output": "C"}])",
        100);
    EXPECT_EQ(records.examples_per_epoch(), 2);
    EXPECT_EQ(records.skipped(), 1);
    EXPECT_THAT(refusal(R"([{"instruction": "a", "output": ""}])"), HasSubstr("none of its 1 records"));
    EXPECT_THAT(refusal(R"([{"instruction": "a", "output": "b"}])", 8),
                HasSubstr("none of its 1 records has an output that fits a sequence of --length 8"));
    EXPECT_THAT(refusal("[]"), HasSubstr("none of its 0 records"));
}

// A tokenizer of bytes to which spaces at the end of a text are nothing.
class TrimmingTokenizer final : public Tokenizer {
public:
    explicit TrimmingTokenizer(std::vector<Token> end_of_text) : Tokenizer(-1, std::move(end_of_text)) {}
    Index vocabulary() const override { return 256; }
    std::string_view decode(Token, Token) const override { return {}; }

private:
    std::vector<Token> do_encode(std::string_view text, std::span<const TextRange>) const override {
        const std::size_t last = text.find_last_not_of(' ');
        const std::string_view kept = text.substr(0, last == std::string_view::npos ? 0 : last + 1);
        std::vector<Token> tokens;
        for (const char c : kept) tokens.push_back(static_cast<unsigned char>(c));
        return tokens;
    }
};

TEST_F(InstructionRecordsTest, AreSkippedWhereTheOutputIsNoToken) {
    const std::string path = file(R"([{"instruction": "a", "output": " "}, {"instruction": "b", "output": "B"}])");
    for (const std::vector<Token>& end_of_text : {std::vector<Token>{}, std::vector<Token>{0}}) {
        const InstructionRecords records(path, TrimmingTokenizer(end_of_text), 256, 100, 1, 1);
        EXPECT_EQ(records.skipped(), 1);
        ASSERT_EQ(records.examples_per_epoch(), 1);
        EXPECT_EQ(records.example(0).targets(), 1 + static_cast<Index>(end_of_text.size()));
    }
}

TEST_F(InstructionRecordsTest, EndAsTheModelSaysIfTheTokenizerDoesNot) {
    const std::string path = file(R"([{"instruction": "a", "output": "AB"}])");
    const auto last_of = [&](const std::vector<Token>& of_tokenizer, Token of_model) {
        const InstructionRecords records(path, TrimmingTokenizer(of_tokenizer), 256, 100, 1, 1, {}, of_model);
        EXPECT_EQ(records.example(0).targets(), records.example(0).tokens.back() == 'B' ? 2 : 3);
        return records.example(0).tokens.back();
    };
    EXPECT_EQ(last_of({}, 7), 7);
    EXPECT_EQ(last_of({5, 6}, 7), 5);
    EXPECT_EQ(last_of({}, -1), 'B');
}

TEST_F(InstructionRecordsTest, OfMoreValuesThanMemoryShouldTakeAreRefused) {
    std::string content = R"([{"instruction":"a","output":"b","more":[)";
    for (int i = 0; i < 1 << 21; ++i) content += "0,";
    EXPECT_THAT(refusal(content + "0]}]"), HasSubstr("records.json: no usable JSON: its values would take more than"));
}

TEST_F(InstructionRecordsTest, ComeOnceInAnEpochInAnOrderOfItsOwn) {
    std::string content = "[";
    for (int i = 0; i < 600; ++i) {
        content +=
            (i > 0 ? ", " : "") + std::string(R"({"instruction": "Count.", "output": ")") + std::to_string(i) + R"("})";
    }
    content += "]";
    const InstructionRecords records = read(content, 100);
    std::set<std::vector<std::string>> orders;
    for (Index epoch = 0; epoch < 5; ++epoch) {
        std::vector<std::string> order(600);
        for (Index i = 0; i < 600; ++i) {
            order[static_cast<std::size_t>(i)] = text_of(records.example(600 * epoch + i).tokens);
        }
        EXPECT_EQ(std::set<std::string>(order.begin(), order.end()).size(), 600u);
        orders.insert(order);
    }
    EXPECT_EQ(orders.size(), 5u);
#if defined(_OPENMP)
    const InstructionRecords threads = read(content, 100, 1, 3);
    EXPECT_EQ(threads.fingerprint(), records.fingerprint());
    for (Index i = 0; i < 1200; ++i) {
        EXPECT_EQ(text_of(threads.example(i).tokens), text_of(records.example(i).tokens));
    }
#endif
    content.replace(content.find("\"7\""), 3, "\"8\"");
    EXPECT_NE(read(content, 100).fingerprint(), records.fingerprint());
}

TEST_F(InstructionRecordsTest, AreReadWithByteLevelTokenizers) {
    const auto tokenizer = read_tokenizer_json(tokenizer_fixture("llama3/tokenizer.json"));
    for (const std::string output : {"The end.", "\\nThe end."}) {
        const InstructionRecords records(file(R"([{"instruction": "End.", "output": ")" + output + R"("}])"),
                                         *tokenizer, tokenizer->vocabulary(), 300, 1, 1);
        const Example example = records.example(0);
        EXPECT_EQ(example.tokens.front(), tokenizer->begin_of_text());
        std::string text;
        for (const Token token : example.tokens) text += tokenizer->decode(-1, token);
        EXPECT_THAT(text,
                    testing::EndsWith("### Response:\n" + std::string(output[0] == '\\' ? "\n" : "") + "The end."));
    }
}

TEST_F(InstructionRecordsTest, AreRefusedByRecordAndMember) {
    const std::string good = R"({"instruction": "a", "output": "b"}, )";
    EXPECT_THAT(refusal(""), HasSubstr("empty"));
    EXPECT_THAT(refusal("{"), HasSubstr("no usable JSON"));
    EXPECT_THAT(refusal("{}"), HasSubstr("no JSON array of records"));
    EXPECT_THAT(refusal("[" + good + "7]"), HasSubstr("record 1 is no JSON object"));
    EXPECT_THAT(refusal("[" + good + R"({"output": "b"}])"), HasSubstr("record 1: instruction is missing"));
    EXPECT_THAT(refusal("[" + good + R"({"instruction": "a"}])"), HasSubstr("record 1: output is missing"));
    EXPECT_THAT(refusal("[" + good + R"({"instruction": "a", "output": ["b"]}])"),
                HasSubstr("record 1: output is a list, must be a string"));
    EXPECT_THAT(refusal("[" + good + R"({"instruction": "a", "input": 5, "output": "b"}])"),
                HasSubstr("record 1: input is 5, must be a string"));
    EXPECT_THAT(refusal("[" + good + "{\"instruction\": \"a\xff\", \"output\": \"b\"}]"), HasSubstr("UTF-8"));
    EXPECT_THAT(refusal_of([&] {
                    InstructionRecords(file("[" + good.substr(0, good.size() - 2) + "]"), tokenizer_, 40, 200, 1, 1);
                }),
                AllOf(HasSubstr("the tokenizer gives token"), HasSubstr("vocabulary has 40")));
}

}  // namespace
}  // namespace llama
