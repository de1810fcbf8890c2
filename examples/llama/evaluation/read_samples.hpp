// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "llama/evaluation/sample.hpp"
#include "llama/evaluation/scores.hpp"

namespace llama {

/// A task of a benchmark, as a file has it.
struct TaskFile {
    std::string name;
    Metric metric = Metric::string_match_all;
    bool chat_template = true;     ///< prompts are put into the model's chat template, if it has one
    bool first_line_only = false;  ///< first_line() of a reply is scored
    std::vector<Sample> samples;   ///< each with one question
};

/// How a task of LongBench asks.
struct LongBenchPrompt {
    std::string
        format;         ///< a format of Python's with {context} once, {input} at most once, and nothing else to fill in
    Index most_tokens;  ///< of the reply
};

/// By the names of the tasks.
using LongBenchPrompts = std::map<std::string, LongBenchPrompt, std::less<>>;

/// The prompts of longbench_tasks() in LongBench's files config/dataset2prompt.json and config/dataset2maxlen.json;
/// what they have for other tasks is ignored. Throws FileError, also if a prompt has more than 4096 bytes or a reply
/// may have more than 65536 tokens.
LongBenchPrompts read_longbench_prompts(const std::string& prompts_path, const std::string& lengths_path);

/// The tasks of a JSONL file, in the order of their first rows. A row is one of these:
///
/// - RULER's, as its scripts/data/prepare.py writes it with the template `base`: `input`, `outputs`, perhaps
///   `answer_prefix`. The task is what the file is called, or its directory: niah_single_1/validation.jsonl, vt.jsonl.
///   As in kvpress, the question begins where the words of the task's question stand for the last time in `input`;
///   without them all of it is context. Without `answer_prefix` the words with which the answer begins are looked for
///   behind.
/// - kvpress' rows of RULER (simonjegou/ruler): `context`, `question`, `answer_prefix`, `answer`, `task`,
///   `max_new_tokens`.
/// - LongBench's (v1, and its tasks _e): `dataset`, `context`, `input`, `answers`, `all_classes`. The prompt is that of
///   `prompts`, the question all that is behind the context. For samsum, LongBench also ends a reply with its first
///   line.
///
/// Other members are ignored. In needles of RULER with one answer, `depth` is where the answer first stands.
///
/// Throws FileError, which names the line, if a row is none of these or is of one of LongBench's Chinese tasks; and for
/// more than 2 GiB, 65536 rows, 256 tasks, 4096 answers or classes of a row, 65536 bytes of one, or 65536 tokens of a
/// reply.
std::vector<TaskFile> read_samples(const std::string& path, const LongBenchPrompts& prompts = {});

/// The same of what such a file holds.
std::vector<TaskFile> parse_samples(std::string_view content, const std::string& path,
                                    const LongBenchPrompts& prompts = {});

/// What stays of the tokens of a context in a prompt of at most `most` tokens, of which `behind` follow the context.
/// Where not all fit, LongBench leaves out the middle of the prompt: its first and its last most / 2 tokens stay. Here
/// nothing of what follows the context is left out, even if it is longer than that. Throws freqkv::Error unless
/// `behind` is 0 to `most`.
std::vector<Token> cut_middle(std::vector<Token> context, Index behind, Index most);

}  // namespace llama
