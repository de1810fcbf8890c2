// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/evaluation/draws.hpp"
#include "llama/evaluation/task_samples.hpp"
#include "llama/evaluation/word_lists.hpp"
#include "llama/io/format.hpp"

// One place of the context has the answer.
namespace llama {

namespace {

std::string draw_number(Random& random, int digits) {
    Index least = 1;
    for (int i = 1; i < digits; ++i) least *= 10;
    return std::to_string(least + draw_below(random, 9 * least));
}

std::string draw_word_pair(Random& random) {
    std::string pair(draw_from(random, adjectives));
    return pair.append("-").append(draw_from(random, nouns));
}

// Version 4: random but for the version and the variant (RFC 9562).
std::string draw_uuid(Random& random) {
    const std::uint64_t high = (random.next() & ~std::uint64_t{0xF000}) | 0x4000;
    const std::uint64_t low = (random.next() >> 2) | std::uint64_t{1} << 63;
    return format("%08x-%04x-%04x-%04x-%012llx", static_cast<unsigned>(high >> 32),
                  static_cast<unsigned>(high >> 16 & 0xFFFF), static_cast<unsigned>(high & 0xFFFF),
                  static_cast<unsigned>(low >> 48), static_cast<unsigned long long>(low & 0xFFFF'FFFF'FFFF));
}

Index place_of(double depth, Index units) { return std::llround(depth * static_cast<double>(units)); }

// `opening`, and so many units of noise with the needle at its depth.
std::string needle_in_noise(std::string_view opening, std::string_view needle, double depth, Index units,
                            char behind_unit) {
    const Index place = place_of(depth, units);
    std::string text(opening);
    for (Index i = 0; i <= units; ++i) {
        if (i == place) text.append(needle) += '\n';
        if (i < units) text.append(noise_sentences) += i + 1 == place || i + 1 == units ? '\n' : behind_unit;
    }
    return text;
}

// The needles of RULER's tasks: `kind` is "number" or "uuid".
std::string niah_opening(std::string_view kind) {
    std::string text("Somewhere in the text below stands a secret ");
    return text.append(kind).append(". Keep it in mind: you will be asked for that ").append(kind).append(".\n");
}

std::string niah_needle(std::string_view kind, std::string_view key, std::string_view value) {
    std::string text("The secret ");
    return text.append(kind).append(" of ").append(key).append(" is: ").append(value).append(".");
}

Question niah_question(const std::string& kind, const std::string& key, const std::string& value) {
    return {.text = "Which secret " + kind + " does the text above give for " + key + "?",
            .answer_prefix = " The secret " + kind + " that the text gives for " + key + " is",
            .answers = {value},
            .most_tokens = 128};
}

// Needles among needles: all keys and values are different. draw_key() and draw_value() take a Random.
template <class DrawKey, class DrawValue>
GrowingSample niah_multikey_sample(const std::string& kind, Index most_units, double depth, Random& random,
                                   DrawKey draw_key, DrawValue draw_value) {
    const std::uint64_t seed = random.next();
    // The one that is asked for comes first, then those of the haystack in their order.
    const auto draw_needles = [=](Index count) {
        Random needles(seed);
        std::set<std::string> drawn;
        const auto draw_new = [&](const auto& draw) {
            std::string text = draw(needles);
            while (!drawn.insert(text).second) text = draw(needles);
            return text;
        };
        std::vector<std::pair<std::string, std::string>> result;
        for (Index i = 0; i < count; ++i) {
            std::string key = draw_new(draw_key);
            result.emplace_back(std::move(key), draw_new(draw_value));
        }
        return result;
    };
    const auto context = [=](Index units) {
        auto needles = draw_needles(units + 1);
        const auto place = static_cast<std::ptrdiff_t>(place_of(depth, units));
        std::rotate(needles.begin(), needles.begin() + 1, needles.begin() + 1 + place);
        std::string text = niah_opening(kind);
        for (const auto& [key, value] : needles) text.append(niah_needle(kind, key, value)) += '\n';
        return text;
    };
    const auto [key, value] = draw_needles(1).front();
    return {.context = context, .most_units = most_units, .question = niah_question(kind, key, value)};
}

bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_capital(c) || (c >= 'a' && c <= 'z'); }

// Whether what stands before a full stop is short for something, or an initial: "Mr", "Mrs", "J".
bool is_abbreviation(std::string_view before) {
    std::size_t first = before.size();
    while (first > 0 && is_letter(before[first - 1])) --first;
    return first < before.size() && before.size() - first <= 3 && is_capital(before[first]);
}

bool is_white(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// How many bytes at the beginning of `text` close a quotation or a bracket.
std::size_t closing_bytes(std::string_view text) {
    constexpr std::array<std::string_view, 7> closing = {"\"", "'", ")", "]", "_", "\u201D", "\u2019"};
    std::size_t bytes = 0;
    const auto find = [&] {
        return std::find_if(closing.begin(), closing.end(),
                            [&](std::string_view mark) { return text.substr(bytes).starts_with(mark); });
    };
    for (auto found = find(); found != closing.end(); found = find()) bytes += found->size();
    return bytes;
}

// Offsets at which a text may be cut: behind the white space that follows a sentence or has an empty line; the last is
// the text's size.
std::vector<std::size_t> sentence_ends(std::string_view text) {
    std::vector<std::size_t> ends;
    bool over = false;  // a sentence is, if white space follows
    for (std::size_t at = 0; at < text.size();) {
        const char c = text[at];
        if (is_white(c)) {
            Index lines = 0;
            for (; at < text.size() && is_white(text[at]); ++at) lines += text[at] == '\n' ? 1 : 0;
            if (over || lines >= 2) ends.push_back(at);
            over = false;
            continue;
        }
        ++at;
        over = c == '!' || c == '?' || (c == '.' && !is_abbreviation(text.substr(0, at - 1)));
        if (over) at += closing_bytes(text.substr(at));
    }
    if (ends.empty() || ends.back() < text.size()) ends.push_back(text.size());
    return ends;
}

// Where a text of so many sentences is cut: the end, or the beginning of the first, that is nearest to this depth.
std::size_t nearest_end(const std::vector<std::size_t>& ends, Index sentences, double depth) {
    const auto all_end = ends.begin() + static_cast<std::ptrdiff_t>(sentences);
    const auto wanted = static_cast<std::size_t>(depth * static_cast<double>(*(all_end - 1)));
    const auto next = std::lower_bound(ends.begin(), all_end - 1, wanted);
    const std::size_t before = next == ends.begin() ? 0 : *(next - 1);
    return wanted - before < *next - wanted ? before : *next;
}

std::string draw_place_name(Random& random) {
    constexpr std::array<std::string_view, 16> first = {"Bran", "Cal", "Dor", "Els", "Fen", "Har", "Ket", "Lan",
                                                        "Mar",  "Nor", "Ol",  "Pen", "Ros", "Sel", "Tar", "Wex"};
    constexpr std::array<std::string_view, 14> second = {"bury",  "by",    "combe", "dale", "field", "ford", "ham",
                                                         "haven", "mouth", "mere",  "sted", "ton",   "wick", "worth"};
    std::string name(draw_from(random, first));
    return name.append(draw_from(random, second));
}

}  // namespace

GrowingSample passkey_sample(const SampleSize& size, double depth, Random& random) {
    const std::string number = draw_number(random, 5);
    const std::string needle = "The pass key is " + number + ". Keep it in mind: " + number + " is the pass key.";
    const auto context = [=](Index units) {
        return needle_in_noise(
            "A pass key stands somewhere in a long text that says nothing else. Look for it, you will be asked for "
            "it.\n",
            needle, depth, units, ' ');
    };
    return {.context = context,
            .most_units = more_units_than(size.tokens),
            .question = {.text = "What is the pass key of the text above?",
                         .answer_prefix = " The pass key is",
                         .answers = {number},
                         .most_tokens = 16}};
}

GrowingSample needle_sample(const SampleSize& size, std::string_view haystack, double depth, Random& random) {
    // More than is needed of a long book: tokens are shorter. What is behind it is not looked at.
    constexpr std::size_t most_bytes_of_token = 64;
    if (haystack.size() / most_bytes_of_token > static_cast<std::size_t>(size.tokens)) {
        haystack = haystack.substr(0, most_bytes_of_token * static_cast<std::size_t>(size.tokens));
    }
    const std::string station = draw_place_name(random) + " station";
    std::string number = draw_number(random, 7);
    while (haystack.find(number) != std::string_view::npos) number = draw_number(random, 7);
    const std::string needle = "The locker at " + station + " opens with the number " + number + ".";
    const std::vector<std::size_t> ends = sentence_ends(haystack);
    const auto context = [=](Index units) {
        const std::string_view read = haystack.substr(0, ends[static_cast<std::size_t>(units) - 1]);
        const std::size_t cut = nearest_end(ends, units, depth);
        std::string_view behind = read.substr(cut);
        while (!behind.empty() && is_white(behind.back())) behind.remove_suffix(1);
        std::string text = "Below is the beginning of a long book.\n<book>\n";
        text.append(read.substr(0, cut)).append(needle);
        if (!behind.empty()) text.append(" ").append(behind);
        return text.append("\n</book>\n");
    };
    return {.context = context,
            .most_units = static_cast<Index>(ends.size()),
            .question = {.text = "Which number opens the locker at " + station + "?",
                         .answer_prefix = " The locker at " + station + " opens with the number",
                         .answers = {number},
                         .most_tokens = 32}};
}

GrowingSample niah_single_1_sample(const SampleSize& size, double depth, Random& random) {
    const std::string key = draw_word_pair(random);
    const std::string value = draw_number(random, 7);
    const auto context = [=](Index units) {
        return needle_in_noise(niah_opening("number"), niah_needle("number", key, value), depth, units, '\n');
    };
    return {.context = context,
            .most_units = more_units_than(size.tokens),
            .question = niah_question("number", key, value)};
}

GrowingSample niah_multikey_2_sample(const SampleSize& size, double depth, Random& random) {
    // Beyond half of all keys, new ones become hard to find.
    constexpr Index keys = static_cast<Index>(adjectives.size() * nouns.size()) / 2;
    return niah_multikey_sample("number", std::min(keys, more_units_than(size.tokens)), depth, random, draw_word_pair,
                                [](Random& needles) { return draw_number(needles, 7); });
}

GrowingSample niah_multikey_3_sample(const SampleSize& size, double depth, Random& random) {
    return niah_multikey_sample("uuid", more_units_than(size.tokens), depth, random, draw_uuid, draw_uuid);
}

}  // namespace llama
