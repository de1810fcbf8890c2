// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include "llama/evaluation/draws.hpp"
#include "llama/evaluation/task_samples.hpp"
#include "llama/evaluation/word_lists.hpp"

// The answer is spread over the whole context: words have to be counted.
namespace llama {

namespace {

constexpr Index common_words = 10;
constexpr Index half_of_all_pairs = static_cast<Index>(adjectives.size() * nouns.size()) / 2;

// How often the common words and the others stand in a list.
struct WordRepeats {
    Index common, other;
};

// All words in a random order; when they are used up, pairs of them, without the common words, which are the first.
std::vector<std::string> draw_list_words(Index count, Random& random) {
    std::vector<std::string> words(adjectives.begin(), adjectives.end());
    words.insert(words.end(), nouns.begin(), nouns.end());
    words.insert(words.end(), verbs.begin(), verbs.end());
    shuffle(words, random);
    const std::set<std::string> common(words.begin(), words.begin() + common_words);
    std::set<std::string> pairs;
    while (static_cast<Index>(words.size()) < count) {
        const std::string adjective(draw_from(random, adjectives));
        const std::string noun(draw_from(random, nouns));
        if (common.contains(adjective) || common.contains(noun)) continue;
        if (const auto [pair, is_new] = pairs.insert(adjective + "-" + noun); is_new) words.push_back(*pair);
    }
    words.resize(static_cast<std::size_t>(count));
    return words;
}

std::string numbered(const std::vector<std::string>& words) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i) {
        text.append(i == 0 ? "" : " ").append(std::to_string(i + 1)).append(". ").append(words[i]);
    }
    return text;
}

std::string word_list(const std::vector<std::string>& words, WordRepeats repeats, Random& random) {
    std::vector<std::string> list;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const Index times = i < common_words ? repeats.common : repeats.other;
        list.insert(list.end(), static_cast<std::size_t>(times), words[i]);
    }
    shuffle(list, random);
    return "A numbered list of words follows. Some words stand in it more often than the others; keep those in "
           "mind.\n" +
           numbered(list) + "\n";
}

Question cwe_question(const std::vector<std::string>& words) {
    return {.text = "Question: Which 10 words stand most often in the list above?",
            .answer_prefix = " Answer: The 10 words that stand most often in the list are:",
            .answers = {words.begin(), words.begin() + common_words},
            .most_tokens = 120};
}

// How often the words of these ranks, counted from 1, stand among about `words` words: zeta(2) is pi^2 / 6.
Index zeta_count(Index words, Index rank) {
    const auto square = static_cast<double>(rank * rank);
    return static_cast<Index>(6 * static_cast<double>(words) / (std::numbers::pi * std::numbers::pi * square));
}

}  // namespace

// RULER's numbers: fewer repeats and a smaller example for samples below 4096 tokens.
GrowingSample cwe_sample(const SampleSize& size, Random& random) {
    const bool small = size.tokens < 4096;
    const WordRepeats repeats = small ? WordRepeats{6, 1} : WordRepeats{30, 3};
    const std::vector<std::string> example_words = draw_list_words(small ? 20 : 40, random);
    std::string example = word_list(example_words, small ? WordRepeats{3, 1} : WordRepeats{10, 3}, random);
    const Question solved = cwe_question(example_words);
    example.append(solved.text).append(solved.answer_prefix).append(" ").append(numbered(solved.answers)).append("\n");

    const std::uint64_t seed = random.next();
    const auto draw_words = [=](Index count) {
        Random words(seed);
        return draw_list_words(count, words);
    };
    const std::uint64_t order_seed = random.next();
    const auto context = [=](Index units) {
        Random order(order_seed);
        return example + word_list(draw_words(units), repeats, order);
    };
    return {.context = context,
            .least_units = 2 * common_words,
            .most_units = std::min(half_of_all_pairs, more_units_than(size.tokens)),
            .question = cwe_question(draw_words(common_words))};
}

// The unit is a word, before counts are rounded down. The most frequent one is shown as dots and is no answer.
GrowingSample fwe_sample(const SampleSize& size, Random& random) {
    constexpr Index least_units = 100;  // from here on the three have different counts, and more than all others
    const Index reply = 50;
    std::vector<std::string> vocabulary{"..."};
    std::set<std::string> drawn;
    const Index wanted = std::max(Index{8}, (size.tokens - reply) / 50);
    while (static_cast<Index>(vocabulary.size()) < wanted) {
        std::string word;
        for (int i = 0; i < 6; ++i) word += static_cast<char>('a' + draw_below(random, 26));
        if (drawn.insert(word).second) vocabulary.push_back(word);
    }
    const std::uint64_t order_seed = random.next();
    const auto context = [=](Index units) {
        std::vector<std::string> words;
        for (std::size_t rank = 0; rank < vocabulary.size(); ++rank) {
            const Index times = zeta_count(units, static_cast<Index>(rank) + 1);
            words.insert(words.end(), static_cast<std::size_t>(times), vocabulary[rank]);
        }
        Random order(order_seed);
        shuffle(words, order);
        std::string text =
            "Read the coded text below and count how often each of its words stands there. You will be asked for the "
            "three most frequent ones.";
        for (const std::string& word : words) text.append(" ").append(word);
        return text + "\n";
    };
    return {.context = context,
            .least_units = least_units,
            .most_units = more_units_than(size.tokens),
            .question = {.text = "Question: Which three words are the most frequent ones in the coded text above? "
                                 "Leave out the dots '...' and explain nothing.",
                         .answer_prefix = " Answer: The three most frequent words in the coded text above are:",
                         .answers = {vocabulary.begin() + 1, vocabulary.begin() + 4},
                         .most_tokens = reply}};
}

}  // namespace llama
