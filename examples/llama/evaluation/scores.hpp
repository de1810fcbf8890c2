// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace llama {

/// How a reply is compared with what was to be said. The first two are RULER's, exact_number is that of passkeys in
/// InfiniteBench, all others are LongBench's (v1, English).
enum class Metric : std::uint8_t {
    string_match_all,   ///< which share of the references the reply has, whatever the case of their letters
    string_match_part,  ///< whether it has any of them
    token_f1,           ///< F1 of the words, without the case of letters, ASCII punctuation and articles
    rouge_l,            ///< F of ROUGE-L, as the package rouge 1.0.1 of PyPI computes it
    classification,     ///< 1 / the number of classes that the reply names, if the reference is among them
    count,              ///< which share of the numbers in the reply are the reference
    retrieval,          ///< the same for a reference "Paragraph N", whose number is N
    code_similarity,    ///< of the first line without a mark of code or comment: `, # or //
    exact_number,       ///< whether the first run of digits 0 to 9 is the reference
};

/// In [0, 1]; the mean over samples times 100 is what the benchmarks show. Of several references the best counts, but
/// for string_match_all; without references it is 0. `classes`: all there are, of a classification.
///
/// As the benchmarks' own scripts compute it for one reply, with these differences:
/// - Bytes that are no UTF-8 count as U+FFFD, one each.
/// - Lower case is by character: U+0130 loses its dot, and a sigma that ends a word is not changed into its final form.
/// - code_similarity is that of fuzzywuzzy with python-Levenshtein, to hundredths; without that package it has others.
/// - rouge recurses once a word, common words counted once, and gives up on two sentences of about 980, which LongBench
///   scores 0.
/// - RULER's control characters become ends of lines; kvpress leaves them out.
///
/// rouge_l and code_similarity take time in proportion to the product of the lengths of reply and reference, and
/// rouge_l a bit of memory for each pair of words in two sentences.
double score(Metric metric, std::string_view prediction, std::span<const std::string> references,
             std::span<const std::string> classes = {});

/// The first line that is not empty; what LongBench scores of a reply in some tasks.
std::string_view first_line(std::string_view prediction);

/// What there is to know of a task of LongBench besides its files.
struct LongBenchTask {
    std::string_view name;
    Metric metric;
    bool chat_template;    ///< prompts are put into the model's chat template
    bool first_line_only;  ///< first_line() of a reply is scored
};

/// The English ones, code included. Chinese tasks are scored by words, which only jieba's dictionary tells.
std::span<const LongBenchTask> longbench_tasks();

}  // namespace llama
