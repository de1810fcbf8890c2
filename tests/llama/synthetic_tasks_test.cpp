// SPDX-License-Identifier: MIT
#include "llama/evaluation/synthetic_tasks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/evaluation/draws.hpp"
#include "llama/evaluation/task_samples.hpp"
#include "llama/evaluation/word_lists.hpp"
#include "llama/io/usage_error.hpp"

namespace llama {
namespace {

using testing::AllOf;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::Le;
using testing::MatchesRegex;

Index count_four_bytes(std::string_view text) { return static_cast<Index>((text.size() + 3) / 4); }

std::vector<std::string> words_between_white_space(std::string_view text) {
    std::istringstream stream{std::string(text)};
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

Index count_words_read(std::string_view text) { return static_cast<Index>(words_between_white_space(text).size()); }

std::vector<std::string> lines_of(std::string_view text) {
    std::istringstream stream{std::string(text)};
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

Index occurrences(std::string_view text, std::string_view part) {
    Index count = 0;
    for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
    return count;
}

// Sentences of 3 to 30 words, in paragraphs, all of them different.
std::string made_up_book(Index sentences) {
    Random random(5);
    std::string book;
    for (Index s = 0; s < sentences; ++s) {
        book += "In year " + std::to_string(s);
        for (Index w = draw_below(random, 28); w >= 0; --w) book.append(" ").append(draw_from(random, nouns));
        book += s % 7 == 6 ? ".\n\n" : s % 5 == 4 ? "!\" " : ". ";
    }
    return book;
}

const std::string& haystack_for_tests() {
    static const std::string book = made_up_book(2000);
    return book;
}

Sample make_test_sample(SyntheticTask task, const SampleSize& size, std::uint64_t seed,
                        std::optional<double> depth = {}) {
    return make_sample(task, size, seed, depth,
                       traits_of(task).needs_haystack ? std::string_view(haystack_for_tests()) : "");
}

Index tokens_of_sample(const Sample& sample, const TokenCount& count) {
    const Question& question = sample.questions.at(0);
    return count(sample.context) + count(question.text) + count(question.answer_prefix) + question.most_tokens;
}

std::string message_of_refused_sample(SyntheticTask task, const SampleSize& size, std::optional<double> depth = {},
                                      std::string_view haystack = {}) {
    try {
        make_sample(task, size, 1, depth, haystack);
    } catch (const UsageError& error) {
        return error.what();
    }
    return "accepted";
}

// What follows the solved example, if there is one.
std::string_view unsolved_part(const Sample& sample) {
    const std::string_view context = sample.context;
    const std::string_view opening = context.substr(0, 40);
    return context.substr(context.rfind(opening));
}

TEST(WordLists, HaveEveryWordOnce) {
    std::set<std::string_view> words;
    const auto expect_new = [&](const auto& list) {
        for (const std::string_view word : list) {
            EXPECT_TRUE(words.insert(word).second) << word;
            EXPECT_GE(word.size(), 3) << word;
            EXPECT_TRUE(std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; })) << word;
        }
        EXPECT_GT(list.size(), 400);
    };
    expect_new(adjectives);
    expect_new(nouns);
    expect_new(verbs);
}

TEST(Draws, AreUniform) {
    for (const Index bound : {1, 2, 3, 7, 10}) {
        Random random(3);
        std::vector<int> counts(static_cast<std::size_t>(bound));
        for (Index i = 0; i < 1000 * bound; ++i) ++counts.at(static_cast<std::size_t>(draw_below(random, bound)));
        for (const int count : counts) EXPECT_NEAR(count, 1000, 150) << bound;
    }
    std::map<std::vector<int>, int> orders;
    Random random(4);
    for (int i = 0; i < 6000; ++i) {
        std::vector<int> values{1, 2, 3};
        shuffle(values, random);
        ++orders[values];
    }
    EXPECT_EQ(orders.size(), 6U);
    for (const auto& [order, count] : orders) EXPECT_NEAR(count, 1000, 150);
}

TEST(FitContext, FindsWhatAScanFindsInFewCounts) {
    Random random(11);
    for (int trial = 0; trial < 300; ++trial) {
        const Index most = 1 + draw_below(random, 5000);
        const Index widest = 1 + draw_below(random, 200);
        std::vector<Index> tokens{draw_below(random, 1000)};  // of so many units
        for (Index i = 0; i < most; ++i) tokens.push_back(tokens.back() + draw_below(random, widest));
        const GrowingSample sample{
            .context = [](Index units) { return std::to_string(units); }, .most_units = most, .question = {}};
        int counts = 0;
        const TokenCount count = [&](std::string_view text) {
            ++counts;
            return tokens.at(static_cast<std::size_t>(std::stoll(std::string(text))));
        };
        const Index limit = draw_below(random, tokens.back() + 100);
        const Fit fit = fit_context(sample, limit, count);
        Index expected = 1;
        while (expected < most && tokens[static_cast<std::size_t>(expected) + 1] <= limit) ++expected;
        EXPECT_EQ(fit.units, expected);
        EXPECT_EQ(fit.tokens, tokens[static_cast<std::size_t>(expected)]);
        EXPECT_LE(counts, 20);
    }
}

TEST(SyntheticTasks, HaveNames) {
    for (const SyntheticTask task : all_of<SyntheticTask>) EXPECT_EQ(find_synthetic_task(to_string(task)), task);
    EXPECT_EQ(find_synthetic_task("niah"), std::nullopt);
    EXPECT_EQ(find_synthetic_task(""), std::nullopt);
}

TEST(SyntheticTasks, FillTheSizeButForAUnit) {
    struct Counted {
        TokenCount count;
        std::map<SyntheticTask, Index> unit;  // at most, in tokens
    };
    using enum SyntheticTask;
    const Counted counted[] = {{count_four_bytes,
                                {{passkey, 24},
                                 {needle, 75},
                                 {niah_single_1, 24},
                                 {niah_multikey_2, 16},
                                 {niah_multikey_3, 25},
                                 {vt, 24},
                                 {cwe, 25},
                                 {fwe, 12}}},
                               {count_words_read,
                                {{passkey, 19},
                                 {needle, 34},
                                 {niah_single_1, 19},
                                 {niah_multikey_2, 7},
                                 {niah_multikey_3, 7},
                                 {vt, 19},
                                 {cwe, 6},
                                 {fwe, 6}}}};
    for (const auto& [count_tokens, units] : counted) {
        for (const SyntheticTask task : all_of<SyntheticTask>) {
            for (const Index size : {1500, 4095, 4096, 9001}) {
                for (std::uint64_t seed = 0; seed < 3; ++seed) {
                    int counts = 0;
                    const TokenCount counting = [&, &count = count_tokens](std::string_view text) {
                        ++counts;
                        return count(text);
                    };
                    const Sample sample = make_test_sample(task, {size, counting}, seed);
                    const Index tokens = tokens_of_sample(sample, count_tokens);
                    EXPECT_LE(tokens, size) << to_string(task);
                    EXPECT_GT(tokens, size - units.at(task)) << to_string(task) << ' ' << size;
                    EXPECT_LE(counts, 16) << to_string(task);
                    EXPECT_EQ(sample.context.back(), '\n');
                    EXPECT_EQ(sample.questions.at(0).answer_prefix.front(), ' ');
                }
            }
        }
    }
}

TEST(SyntheticTasks, AreTheSameForASeed) {
    for (const SyntheticTask task : all_of<SyntheticTask>) {
        const SampleSize size{2000, count_four_bytes};
        std::set<std::string> contexts;
        std::set<std::vector<std::string>> answers;
        for (std::uint64_t seed = 0; seed < 8; ++seed) {
            const Sample sample = make_test_sample(task, size, seed);
            const Sample again = make_test_sample(task, size, seed);
            EXPECT_EQ(sample.context, again.context);
            EXPECT_EQ(sample.questions.at(0).text, again.questions.at(0).text);
            EXPECT_EQ(sample.questions.at(0).answer_prefix, again.questions.at(0).answer_prefix);
            EXPECT_EQ(sample.questions.at(0).answers, again.questions.at(0).answers);
            EXPECT_EQ(sample.depth, again.depth);
            contexts.insert(sample.context);
            answers.insert(sample.questions.at(0).answers);
        }
        EXPECT_EQ(contexts.size(), 8U) << to_string(task);
        EXPECT_EQ(answers.size(), 8U) << to_string(task);
    }
}

// Figures that were published can be had again.
TEST(SyntheticTasks, AreTheSameAsEver) {
    const std::map<SyntheticTask, std::uint64_t> hashes = {{SyntheticTask::passkey, 0x604a45c107ea45cb},
                                                           {SyntheticTask::needle, 0x8e9753dccf341a72},
                                                           {SyntheticTask::niah_single_1, 0x8f367c9fb72d29d7},
                                                           {SyntheticTask::niah_multikey_2, 0xcf68f23b5be9d173},
                                                           {SyntheticTask::niah_multikey_3, 0x70a67596e3f709a},
                                                           {SyntheticTask::vt, 0x11532b7e06063fcb},
                                                           {SyntheticTask::cwe, 0x7112de1359cd6286},
                                                           {SyntheticTask::fwe, 0x228a1e369817fc3a}};
    for (const SyntheticTask task : all_of<SyntheticTask>) {
        const Sample sample = make_test_sample(task, {4096, count_four_bytes}, 42);
        const Question& question = sample.questions.at(0);
        std::string all = sample.context + question.text + question.answer_prefix;
        for (const std::string& answer : question.answers) all += answer + '\n';
        std::uint64_t hash = 0xcbf29ce484222325;
        for (const char c : all) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
        EXPECT_EQ(hash, hashes.at(task)) << to_string(task) << " 0x" << std::hex << hash;
    }
}

TEST(SyntheticTasks, DrawADepthWhereNoneIsGiven) {
    const SampleSize size{1500, count_four_bytes};
    for (const SyntheticTask task : all_of<SyntheticTask>) {
        if (!traits_of(task).has_depth) {
            EXPECT_EQ(make_test_sample(task, size, 1).depth, -1) << to_string(task);
            continue;
        }
        double sum = 0;
        for (std::uint64_t seed = 0; seed < 50; ++seed) sum += make_test_sample(task, size, seed).depth;
        EXPECT_NEAR(sum / 50, 0.5, 0.12) << to_string(task);
    }
}

// One line, at its depth, has the answer, which stands there so many times and nowhere else.
void expect_answer_at_depth(SyntheticTask task, std::string_view line_begins, Index times) {
    for (const double depth : {0.0, 0.1, 0.5, 0.77, 1.0}) {
        for (std::uint64_t seed = 0; seed < 5; ++seed) {
            const Sample sample = make_test_sample(task, {3000, count_four_bytes}, seed, depth);
            EXPECT_EQ(sample.depth, depth);
            const std::vector<std::string>& answers = sample.questions.at(0).answers;
            ASSERT_EQ(answers.size(), 1U);
            EXPECT_EQ(occurrences(sample.context, answers[0]), times) << to_string(task);
            std::string text = sample.context;  // with each unit of noise in a line of its own
            if (task == SyntheticTask::passkey) {
                text = std::regex_replace(text, std::regex("home. The"), "home.\nThe");
            }
            std::vector<std::string> lines = lines_of(text);
            lines.erase(lines.begin());
            const auto found = std::find_if(lines.begin(), lines.end(), [&](const std::string& line) {
                return line.find(answers[0]) != std::string::npos;
            });
            ASSERT_NE(found, lines.end());
            EXPECT_THAT(*found, testing::StartsWith(std::string(line_begins)));
            EXPECT_NEAR(static_cast<double>(found - lines.begin()), depth * static_cast<double>(lines.size() - 1), 0.51)
                << to_string(task);
            EXPECT_GT(lines.size(), 25U);
        }
    }
}

TEST(SyntheticTasks, PasskeyStandsAtItsDepth) {
    expect_answer_at_depth(SyntheticTask::passkey, "The pass key is ", 2);
    const Sample sample = make_test_sample(SyntheticTask::passkey, {3000, count_four_bytes}, 1);
    EXPECT_THAT(sample.questions.at(0).answers.at(0), MatchesRegex("[1-9][0-9]{4}"));
}

TEST(SyntheticTasks, NeedlesStandAtTheirDepth) {
    expect_answer_at_depth(SyntheticTask::niah_single_1, "The secret number of ", 1);
    expect_answer_at_depth(SyntheticTask::niah_multikey_2, "The secret number of ", 1);
    expect_answer_at_depth(SyntheticTask::niah_multikey_3, "The secret uuid of ", 1);
}

TEST(SyntheticTasks, KeysAndValuesOfNeedlesAreUnique) {
    const std::string number = "[1-9][0-9]{6}";
    const std::string pair = "[a-z]+-[a-z]+";
    const std::string uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
    struct Case {
        SyntheticTask task;
        std::string kind, key, value;
    };
    for (const auto& [task, kind, key_form, value_form] : {Case{SyntheticTask::niah_multikey_2, "number", pair, number},
                                                           Case{SyntheticTask::niah_multikey_3, "uuid", uuid, uuid}}) {
        const Sample sample = make_test_sample(task, {20'000, count_four_bytes}, 3);
        const std::regex form("The secret " + kind + " of (" + key_form + ") is: (" + value_form + ")\\.");
        std::map<std::string, std::string> values;
        std::set<std::string> seen;
        const std::vector<std::string> lines = lines_of(sample.context);
        for (std::size_t i = 1; i < lines.size(); ++i) {
            std::smatch match;
            ASSERT_TRUE(std::regex_match(lines[i], match, form)) << lines[i];
            EXPECT_TRUE(seen.insert(match[1]).second) << match[1];
            EXPECT_TRUE(seen.insert(match[2]).second) << match[2];
            values[match[1]] = match[2];
        }
        EXPECT_GT(values.size(), 700U);
        const Question& question = sample.questions.at(0);
        const std::string_view asked = question.text;
        const std::string key(asked.substr(asked.rfind(' ') + 1, asked.rfind('?') - asked.rfind(' ') - 1));
        EXPECT_EQ(values.at(key), question.answers.at(0));
        EXPECT_THAT(question.answer_prefix, HasSubstr(" for " + key + " is"));
        EXPECT_EQ(question.most_tokens, 128);
    }
}

TEST(SyntheticTasks, NeedleStandsBetweenSentencesOfTheText) {
    const std::string& book = haystack_for_tests();
    for (const double depth : {0.0, 0.2, 0.5, 0.91, 1.0}) {
        for (std::uint64_t seed = 0; seed < 5; ++seed) {
            const Sample sample = make_test_sample(SyntheticTask::needle, {3000, count_four_bytes}, seed, depth);
            std::string text = sample.context;
            const std::string& number = sample.questions.at(0).answers.at(0);
            EXPECT_EQ(occurrences(text, number), 1);
            const std::size_t begin = text.find("<book>\n") + 7;
            const std::size_t end = text.find("\n</book>\n");
            text = text.substr(begin, end - begin);
            const std::size_t at = text.find("The locker at ");
            const std::size_t behind = text.find(number) + number.size() + 1;
            EXPECT_NEAR(static_cast<double>(at), depth * static_cast<double>(text.size() - (behind - at)), 130)
                << depth;
            if (at > 0) {
                EXPECT_THAT(text.substr(0, at), testing::AnyOf(testing::EndsWith(". "), testing::EndsWith("!\" "),
                                                               testing::EndsWith(".\n\n")));
            }
            const bool last = behind == text.size();
            const std::size_t spaces = last ? 0 : 1;
            std::string rest = text.substr(0, at) + text.substr(behind + spaces);
            if (last) rest.erase(rest.find_last_not_of(" \n") + 1);
            EXPECT_TRUE(book.starts_with(rest));
            EXPECT_TRUE(rest.ends_with('.') || rest.ends_with('"'));
        }
    }
}

// Of all depths: the places where the text is cut.
std::set<std::string> parts_before_needle(const std::string& text, const SampleSize& size) {
    std::set<std::string> parts;
    for (int depth = 0; depth <= 1000; ++depth) {
        const Sample sample = make_sample(SyntheticTask::needle, size, 1, depth / 1000.0, text);
        const std::size_t begin = sample.context.find("<book>\n") + 7;
        parts.insert(sample.context.substr(begin, sample.context.find("The locker at ") - begin));
    }
    return parts;
}

TEST(SyntheticTasks, TextIsCutAtEndsOfSentencesOnly) {
    const std::vector<std::string> sentences = {"CHAPTER I\n\n",
                                                "Mr. Brown met J. Smith in St. Ives at 5.30 today! ",
                                                "(He said: \u201CWhat?\u201D) ",
                                                "\u201CNo...\" \n",
                                                "The price is 3.5 million.\r\n\r\n",
                                                "Another line\nof the same. "};
    std::string text;
    std::set<std::string> expected{""};
    for (const std::string& sentence : sentences) expected.insert(text += sentence);
    for (int i = 0; i < 100; ++i) text += "and more ";
    EXPECT_EQ(parts_before_needle(text, {200, count_four_bytes}), expected);
}

TEST(SyntheticTasks, VariablesResolve) {
    // All variables that have the value that a question asks for.
    const auto interpret = [](std::string_view text, const std::string& value, int letters) {
        const std::regex form("VAR ([A-Z]{" + std::to_string(letters) + "}) = (VAR )?([A-Z0-9]{3,5})");
        std::map<std::string, std::string> values;
        std::vector<std::string> found;
        bool behind_assignment = false;
        for (const std::string& line : lines_of(text)) {
            std::smatch match;
            const bool assignment = std::regex_match(line, match, form);
            if (assignment) {
                EXPECT_FALSE(behind_assignment) << "two together";
                EXPECT_FALSE(values.contains(match[1]));
                values[match[1]] = match[2].matched ? values.at(match[3]) : match[3].str();
                if (values[match[1]] == value) found.push_back(match[1]);
            }
            behind_assignment = assignment;
        }
        return found;
    };
    for (const Index size : {1500, 4096, 16'000}) {
        for (std::uint64_t seed = 0; seed < 10; ++seed) {
            const Sample sample = make_test_sample(SyntheticTask::vt, {size, count_four_bytes}, seed);
            const Question& question = sample.questions.at(0);
            std::smatch value;
            ASSERT_TRUE(std::regex_search(question.text, value, std::regex("[0-9]{5}")));
            EXPECT_THAT(interpret(unsolved_part(sample), value.str(), 5), ElementsAreArray(question.answers));
            EXPECT_EQ(question.answers.size(), 5U);
            EXPECT_EQ(question.most_tokens, 30);
            EXPECT_THAT(question.answer_prefix, HasSubstr(value.str()));
            for (std::size_t i = 0; i < 5; ++i) {
                EXPECT_EQ(occurrences(sample.context, question.answers[i]), i + 1 < 5 ? 2 : 1);
            }

            const std::string example = sample.context.substr(0, sample.context.size() - unsolved_part(sample).size());
            EXPECT_THAT(count_four_bytes(example), AllOf(Le(500), testing::Gt(500 - 24)));
            std::smatch solved;
            ASSERT_TRUE(std::regex_search(example, solved,
                                          std::regex("have the value ([0-9]{5})\\?.*: (([A-Z]{3} ?){5})\n\n$")));
            EXPECT_NE(solved[1], value.str());
            EXPECT_THAT(interpret(example, solved[1], 3), ElementsAreArray(words_between_white_space(solved[2].str())));
        }
    }
}

std::map<std::string, Index> count_each_word(const std::vector<std::string>& words) {
    std::map<std::string, Index> counts;
    for (const std::string& word : words) ++counts[word];
    return counts;
}

// "1. word 2. word ..." without the numbers.
std::vector<std::string> words_of_numbered(const std::string& list) {
    std::vector<std::string> words;
    const std::vector<std::string> all = words_between_white_space(list);
    EXPECT_EQ(all.size() % 2, 0U);
    for (std::size_t i = 0; i + 1 < all.size(); i += 2) {
        EXPECT_EQ(all[i], std::to_string(i / 2 + 1) + ".");
        words.push_back(all[i + 1]);
    }
    return words;
}

void expect_common_words(const std::vector<std::string>& list, const std::vector<std::string>& common,
                         Index common_count, Index other_count) {
    EXPECT_EQ(common.size(), 10U);
    for (const auto& [word, count] : count_each_word(list)) {
        const bool is_common = std::find(common.begin(), common.end(), word) != common.end();
        EXPECT_EQ(count, is_common ? common_count : other_count) << word;
        if (is_common) continue;
        for (const std::string& part : common) {
            EXPECT_FALSE(word.starts_with(part + "-") || word.ends_with("-" + part)) << word;
        }
    }
}

TEST(SyntheticTasks, CommonWordsAreTheMostFrequent) {
    for (const Index size : {1500, 4095, 4096, 40'000}) {
        const bool small = size < 4096;
        for (std::uint64_t seed = 0; seed < 3; ++seed) {
            const Sample sample = make_test_sample(SyntheticTask::cwe, {size, count_words_read}, seed);
            const Question& question = sample.questions.at(0);
            const std::vector<std::string> lines = lines_of(sample.context);
            ASSERT_EQ(lines.size(), 5U);
            EXPECT_EQ(lines[0], lines[3]);
            EXPECT_EQ(question.most_tokens, 120);
            const std::vector<std::string> list = words_of_numbered(lines[4]);
            expect_common_words(list, question.answers, small ? 6 : 30, small ? 1 : 3);
            EXPECT_EQ(count_each_word(list).size() > adjectives.size() + nouns.size() + verbs.size(),
                      lines[4].find('-') != std::string::npos)
                << "pairs of words when words are used up, and not before";

            const std::string asked = question.text + question.answer_prefix;
            ASSERT_TRUE(lines[2].starts_with(asked + " "));
            const std::vector<std::string> example = words_of_numbered(lines[1]);
            EXPECT_EQ(count_each_word(example).size(), small ? 20U : 40U);
            expect_common_words(example, words_of_numbered(lines[2].substr(asked.size())), small ? 3 : 10,
                                small ? 1 : 3);
        }
    }
}

TEST(SyntheticTasks, FrequentWordsFollowAZetaDistribution) {
    for (const Index size : {700, 1500, 4096, 40'000}) {
        for (std::uint64_t seed = 0; seed < 3; ++seed) {
            const Sample sample = make_test_sample(SyntheticTask::fwe, {size, count_words_read}, seed);
            const Question& question = sample.questions.at(0);
            const std::string context = sample.context.substr(sample.context.find("ones.") + 5);
            std::vector<std::pair<Index, std::string>> counts;
            for (const auto& [word, count] : count_each_word(words_between_white_space(context))) {
                counts.emplace_back(count, word);
                EXPECT_THAT(word, MatchesRegex("[a-z]{6}|\\.\\.\\."));
            }
            std::sort(counts.rbegin(), counts.rend());
            EXPECT_EQ(counts[0].second, "...");
            ASSERT_EQ(question.answers.size(), 3U);
            for (std::size_t i = 1; i <= 3; ++i) {
                EXPECT_EQ(counts[i].second, question.answers[i - 1]);
                EXPECT_LT(counts[i].first, counts[i - 1].first);
            }
            EXPECT_LT(counts[4].first, counts[3].first);
            EXPECT_LE(counts.size(), static_cast<std::size_t>(size - 50) / 50);
            for (std::size_t i = 1; i < counts.size(); ++i) {
                const auto share = static_cast<double>(counts[0].first) / static_cast<double>((i + 1) * (i + 1));
                EXPECT_NEAR(static_cast<double>(counts[i].first), share, 1.0);
            }
            EXPECT_EQ(question.most_tokens, 50);
        }
    }
}

TEST(SyntheticTasks, RefuseASizeBelowTheSmallest) {
    for (const SyntheticTask task : all_of<SyntheticTask>) {
        const std::string_view text = traits_of(task).needs_haystack ? std::string_view(haystack_for_tests()) : "";
        const std::string message = message_of_refused_sample(task, {90, count_four_bytes}, {}, text);
        EXPECT_THAT(message, testing::StartsWith(std::string(to_string(task)) +
                                                 (": no sample has only 90 tokens; the smallest has ")));
        const Index smallest = std::stoll(message.substr(message.rfind(' ') + 1));
        const SampleSize size{smallest, count_four_bytes};
        EXPECT_THAT(message_of_refused_sample(task, {smallest - 1, count_four_bytes}, {}, text),
                    HasSubstr("only " + std::to_string(smallest - 1) + " tokens"));
        EXPECT_EQ(tokens_of_sample(make_sample(task, size, 1, {}, text), count_four_bytes), smallest);
    }
}

TEST(SyntheticTasks, RefuseWhatDoesNotBelongToThem) {
    const SampleSize size{4096, count_four_bytes};
    EXPECT_THAT(message_of_refused_sample(SyntheticTask::needle, size, {}, made_up_book(10)),
                MatchesRegex("needle: all there is to read makes a sample of [0-9]+ tokens, not 4096"));
    EXPECT_EQ(message_of_refused_sample(SyntheticTask::needle, size), "needle: the task needs a text");
    EXPECT_EQ(message_of_refused_sample(SyntheticTask::passkey, size, {}, "A text."),
              "passkey: the task takes no text");
    EXPECT_EQ(message_of_refused_sample(SyntheticTask::cwe, size, 0.5),
              "cwe: what is asked for has no depth, it stands in many places");
    for (const double depth : {-0.1, 1.1, std::nan("")}) {
        EXPECT_EQ(message_of_refused_sample(SyntheticTask::passkey, size, depth), "passkey: the depth must be 0 to 1");
    }
}

}  // namespace
}  // namespace llama
