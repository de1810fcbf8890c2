// SPDX-License-Identifier: MIT
#include "llama/evaluation/scores.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

namespace llama {

namespace {

// The originals are Python's: characters are Unicode's, and so are letters, digits and white space.
using Text = std::u32string;
using TextView = std::u32string_view;
using Words = std::vector<TextView>;

Text decode(std::string_view bytes) {
    Text text;
    text.reserve(bytes.size());
    while (!bytes.empty()) {
        utf8proc_int32_t character = 0;
        const utf8proc_ssize_t length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(bytes.data()),
                                                         static_cast<utf8proc_ssize_t>(bytes.size()), &character);
        text += length > 0 ? static_cast<char32_t>(character) : U'\uFFFD';
        bytes.remove_prefix(length > 0 ? static_cast<std::size_t>(length) : 1);
    }
    return text;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

char32_t lower(char32_t c) { return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))); }

Text lower(Text text) {
    for (char32_t& c : text) c = lower(c);
    return text;
}

// str.isspace()
bool is_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// \d of re
bool is_digit(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }

// \w of re
bool is_word(char32_t c) {
    switch (category(c)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
            return true;
        default:
            return c == U'_';
    }
}

// string.punctuation
bool is_punctuation(char32_t c) {
    const bool is_letter = (c >= U'A' && c <= U'Z') || (c >= U'a' && c <= U'z');
    return c > U' ' && c < 0x7F && !is_letter && !(c >= U'0' && c <= U'9');
}

// The longest parts of a text whose characters are `kind`, as views of it.
template <class Kind>
Words parts_of(TextView text, const Kind& kind) {
    Words parts;
    for (auto at = text.begin();;) {
        const auto begin = std::find_if(at, text.end(), kind);
        if (begin == text.end()) return parts;
        at = std::find_if_not(begin, text.end(), kind);
        parts.emplace_back(begin, at);
    }
}

Words words_of(TextView text) {
    return parts_of(text, [](char32_t c) { return !is_space(c); });
}

double share(std::size_t part, std::size_t all) { return static_cast<double>(part) / static_cast<double>(all); }

// RULER

bool has(TextView text, const std::string& reference) { return text.find(lower(decode(reference))) != Text::npos; }

double string_match(std::string_view prediction, std::span<const std::string> references, bool part) {
    Text text = lower(decode(prediction));
    for (char32_t& c : text) c = c < 0x20 ? U'\n' : c;
    const auto begin = std::find_if_not(text.begin(), text.end(), is_space);
    const auto end = std::find_if_not(text.rbegin(), std::make_reverse_iterator(begin), is_space).base();
    const TextView stripped(begin, end);
    const auto found = static_cast<std::size_t>(std::count_if(
        references.begin(), references.end(), [&](const std::string& reference) { return has(stripped, reference); }));
    if (part) return found > 0 ? 1 : 0;
    return references.empty() ? 0 : share(found, references.size());
}

// LongBench

Text normalize(std::string_view answer) {
    Text text = lower(decode(answer));
    std::erase_if(text, is_punctuation);
    Text result;
    for (TextView left = text; !left.empty();) {
        const auto end = std::find_if_not(left.begin(), left.end(), is_word);
        const TextView word(left.begin(), end);
        if (word.empty()) {
            result += left.front();
            left.remove_prefix(1);
            continue;
        }
        const bool is_article = word == U"a" || word == U"an" || word == U"the";
        result += is_article ? TextView(U" ") : word;
        left.remove_prefix(word.size());
    }
    return result;
}

double token_f1(std::string_view prediction, const std::string& reference) {
    const Text texts[] = {normalize(prediction), normalize(reference)};
    Words said = words_of(texts[0]);
    Words expected = words_of(texts[1]);
    std::sort(said.begin(), said.end());
    std::sort(expected.begin(), expected.end());
    Words common;
    std::set_intersection(said.begin(), said.end(), expected.begin(), expected.end(), std::back_inserter(common));
    if (common.empty()) return 0;
    const double precision = share(common.size(), said.size());
    const double recall = share(common.size(), expected.size());
    return 2 * precision * recall / (precision + recall);
}

// What stands between full stops. A sentence of white space has one word, which is empty.
std::vector<Words> sentences_of(TextView text) {
    std::vector<Words> sentences;
    for (const TextView sentence : parts_of(text, [](char32_t c) { return c != U'.'; })) {
        sentences.push_back(words_of(sentence));
        if (sentences.back().empty()) sentences.back().emplace_back();
    }
    return sentences;
}

// The words of a longest common subsequence; of several the one that rouge takes.
void add_common_words(const Words& expected, const Words& said, std::set<TextView>& common) {
    const std::size_t columns = said.size();
    std::vector<std::size_t> above(columns + 1);  // lengths for the beginnings of both
    std::vector<std::size_t> row(columns + 1);
    std::vector<bool> upwards(expected.size() * columns);  // where the words differ: which way a longest one goes on
    for (std::size_t i = 0; i < expected.size(); ++i) {
        for (std::size_t j = 0; j < columns; ++j) {
            if (expected[i] == said[j]) {
                row[j + 1] = above[j] + 1;
            } else {
                row[j + 1] = std::max(above[j + 1], row[j]);
                upwards[i * columns + j] = above[j + 1] > row[j];
            }
        }
        std::swap(above, row);
    }
    for (std::size_t i = expected.size(), j = columns; i > 0 && j > 0;) {
        if (expected[i - 1] == said[j - 1]) {
            common.insert(said[--j]);
            --i;
        } else if (upwards[(i - 1) * columns + j - 1]) {
            --i;
        } else {
            --j;
        }
    }
}

std::set<TextView> different_words(const std::vector<Words>& sentences) {
    std::set<TextView> words;
    for (const Words& sentence : sentences) words.insert(sentence.begin(), sentence.end());
    return words;
}

double rouge_l(std::string_view prediction, const std::string& reference) {
    const Text texts[] = {decode(prediction), decode(reference)};
    const std::vector<Words> said = sentences_of(texts[0]);
    const std::vector<Words> expected = sentences_of(texts[1]);
    if (said.empty() || expected.empty()) return 0;
    std::set<TextView> common;
    for (const Words& one : expected) {
        for (const Words& other : said) add_common_words(one, other, common);
    }
    const double recall = share(common.size(), different_words(expected).size());
    const double precision = share(common.size(), different_words(said).size());
    return 2 * (precision * recall / (precision + recall + 1e-8));
}

// A name within the reference is taken off the list of those in the reply, in which the original skips the one behind
// it.
double classification(std::string_view prediction, const std::string& reference, std::span<const std::string> classes) {
    std::vector<std::string_view> named;
    for (const std::string& name : classes) {
        if (prediction.find(name) != std::string_view::npos) named.emplace_back(name);
    }
    for (std::size_t i = 0; i < named.size(); ++i) {
        const std::string_view name = named[i];
        if (name == reference || reference.find(name) == std::string::npos) continue;
        named.erase(std::find(named.begin(), named.end(), name));
    }
    return std::find(named.begin(), named.end(), reference) == named.end() ? 0 : share(1, named.size());
}

double count(std::string_view prediction, TextView expected) {
    const Text text = decode(prediction);
    const Words numbers = parts_of(text, is_digit);
    if (numbers.empty()) return 0;
    const auto right = std::count(numbers.begin(), numbers.end(), expected);
    return share(static_cast<std::size_t>(right), numbers.size());
}

double retrieval(std::string_view prediction, const std::string& reference) {
    constexpr TextView name = U"Paragraph ";
    const Text text = decode(reference);
    for (std::size_t at = text.find(name); at != Text::npos; at = text.find(name, at + 1)) {
        const TextView behind = TextView(text).substr(at + name.size());
        const TextView number(behind.begin(), std::find_if_not(behind.begin(), behind.end(), is_digit));
        if (!number.empty()) return count(prediction, number);
    }
    return 0;
}

// The share of the characters that stay where one text is made into the other by leaving out and putting in.
double similarity(TextView one, TextView other) {
    if (one == other) return 1;
    if (one.empty() || other.empty()) return 0;
    std::vector<std::size_t> above(other.size() + 1);  // lengths of longest common subsequences
    std::vector<std::size_t> row(other.size() + 1);
    for (const char32_t c : one) {
        for (std::size_t j = 0; j < other.size(); ++j) {
            row[j + 1] = c == other[j] ? above[j] + 1 : std::max(above[j + 1], row[j]);
        }
        std::swap(above, row);
    }
    const std::size_t all = one.size() + other.size();
    return std::nearbyint(100 * (1 - share(all - 2 * above.back(), all))) / 100;
}

double code_similarity(std::string_view prediction, const std::string& reference) {
    prediction.remove_prefix(std::min(prediction.find_first_not_of('\n'), prediction.size()));
    while (!prediction.empty()) {
        const std::string_view line = prediction.substr(0, prediction.find('\n'));
        if (line.find_first_of("`#") == std::string_view::npos && line.find("//") == std::string_view::npos) {
            return similarity(decode(line), decode(reference));
        }
        prediction.remove_prefix(std::min(line.size() + 1, prediction.size()));
    }
    return similarity({}, decode(reference));
}

// InfiniteBench

double exact_number(std::string_view prediction, const std::string& reference) {
    constexpr std::string_view digits = "0123456789";
    prediction.remove_prefix(std::min(prediction.find_first_of(digits), prediction.size()));
    return prediction.substr(0, prediction.find_first_not_of(digits)) == reference ? 1 : 0;
}

double score_one(Metric metric, std::string_view prediction, const std::string& reference,
                 std::span<const std::string> classes) {
    switch (metric) {
        case Metric::token_f1:
            return token_f1(prediction, reference);
        case Metric::rouge_l:
            return rouge_l(prediction, reference);
        case Metric::classification:
            return classification(prediction, reference, classes);
        case Metric::count:
            return count(prediction, decode(reference));
        case Metric::retrieval:
            return retrieval(prediction, reference);
        case Metric::code_similarity:
            return code_similarity(prediction, reference);
        case Metric::exact_number:
            return exact_number(prediction, reference);
        case Metric::string_match_all:
        case Metric::string_match_part:
            break;
    }
    return 0;
}

}  // namespace

double score(Metric metric, std::string_view prediction, std::span<const std::string> references,
             std::span<const std::string> classes) {
    if (metric == Metric::string_match_all || metric == Metric::string_match_part) {
        return string_match(prediction, references, metric == Metric::string_match_part);
    }
    double best = 0;
    for (const std::string& reference : references) {
        best = std::max(best, score_one(metric, prediction, reference, classes));
    }
    return best;
}

std::string_view first_line(std::string_view prediction) {
    prediction.remove_prefix(std::min(prediction.find_first_not_of('\n'), prediction.size()));
    return prediction.substr(0, prediction.find('\n'));
}

std::span<const LongBenchTask> longbench_tasks() {
    static constexpr LongBenchTask tasks[] = {
        {"narrativeqa", Metric::token_f1, true, false},     {"qasper", Metric::token_f1, true, false},
        {"multifieldqa_en", Metric::token_f1, true, false}, {"hotpotqa", Metric::token_f1, true, false},
        {"2wikimqa", Metric::token_f1, true, false},        {"musique", Metric::token_f1, true, false},
        {"gov_report", Metric::rouge_l, true, false},       {"qmsum", Metric::rouge_l, true, false},
        {"multi_news", Metric::rouge_l, true, false},       {"trec", Metric::classification, false, true},
        {"triviaqa", Metric::token_f1, false, true},        {"samsum", Metric::rouge_l, false, true},
        {"passage_count", Metric::count, true, false},      {"passage_retrieval_en", Metric::retrieval, true, false},
        {"lcc", Metric::code_similarity, false, false},     {"repobench-p", Metric::code_similarity, false, false},
    };
    return tasks;
}

}  // namespace llama
