// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "llama/model/sampler.hpp"
#include "llama/program/options.hpp"
#include "llama/program/training_options.hpp"

// The commands of freqkv-llama. Each returns the exit status, or throws: UsageError for status 2,
// anything else for status 1.
namespace llama {

struct GenerateOptions : ModelOptions {
    std::string tokenizer;
    std::string prompt;
    std::string prompt_file;
    Index tokens = 256;
    SamplerOptions sampler;
    bool ignore_eos = false;
    bool chat = false;  ///< the prompt is what a user says; only the reply is written
    std::optional<std::string> system;
    std::string chat_template;  ///< empty: the model's own
};

/// Writes the prompt and its continuation to standard output and statistics to standard error.
int generate(const GenerateOptions& options);

struct ChatOptions : ModelOptions {
    std::string tokenizer;
    std::optional<std::string> system;
    std::string chat_template;  ///< empty: the model's own
    Index tokens = 1024;        ///< of a reply
    SamplerOptions sampler{.temperature = 0.2, .top_k = 0, .top_p = 0.9, .seed = 1};
    bool verbose = false;
};

/// Talks with the user: reads messages from standard input and writes replies to standard output.
int chat(const ChatOptions& options);

struct FetchOptions {
    std::string model;  ///< empty: list what there is
};

/// Downloads a known model into the user's cache directory.
int fetch(const FetchOptions& options);

struct PerplexityOptions : ModelOptions {
    std::string token_file;
    std::string token_format = "decimal";
    std::string text;
    std::string tokenizer;
    Index limit = 0;  ///< 0: all tokens
    Index skip = 0;
    Index window = 0;  ///< 0: all tokens are one sequence
    Index stride = 0;
    Index score_last = 0;  ///< targets of a window; 0: all
    bool resume = false;
    std::string json;
};

/// Prints the perplexity of a text, or writes it as JSON. What it has so far is kept in a file while it runs.
int perplexity(const PerplexityOptions& options);

struct EvaluateOptions : ModelOptions {
    std::vector<std::string> tasks;  ///< names of EvaluationTasks, or files of RULER's or LongBench's
    std::vector<Index> lengths;      ///< tokens of a sample; empty: 2048, those of files as they are
    Index samples = 50;              ///< of each task, length and place
    Index depths = 0;  ///< places of what is asked for, from the beginning to the end; 0: one for each sample
    std::vector<Index> distances{256, 512, 1024};  ///< of passages that come again
    std::uint64_t seed = 1;
    std::string text;
    std::string tokenizer;
    std::string longbench;      ///< directory of LongBench's prompts
    std::string chat_template;  ///< empty: the model's own; "none": no conversation
    bool question_aware = false;
    std::string out;
    int jobs = 1;
    bool resume = false;
    std::string json;
};

/// Measures what a model finds in long texts with a cache, and how far it is from itself with a full one.
int evaluate(const EvaluateOptions& options);

struct CalibrateOptions : ModelOptions {
    CalibrateBy by = CalibrateBy::retrieval;
    std::optional<double> shared;  ///< part of the entries that goes by what was measured; the rest is alike for all
    std::string text;
    std::string tokenizer;
    Index limit = 16384;  ///< tokens
    std::string out;
};

/// Measures the heads while a text is read, and writes capacities that go by it.
int calibrate(const CalibrateOptions& options);

/// Of ModelOptions it has the model, the adapter, the sinks and the threads.
struct SpectrumOptions : ModelOptions {
    std::string text;
    std::string tokenizer;
    Index limit = 16384;  ///< tokens
    Index window = 0;     ///< 0: the trained one, at most 2048
    double exchange = 0;  ///< part of the tokens; 0: the text is read once
    std::string out;      ///< empty: the summary alone
    std::string json;
};

/// Measures where the energy of keys and values lies along the sequence: by frequency, layer and head, and by kind of
/// token.
int spectrum(const SpectrumOptions& options);

struct PoliciesOptions {
    std::string json;
};

/// Lists what can become of a full cache.
int policies(const PoliciesOptions& options);

struct FlopsOptions : ModelOptions {
    Index context = 0;  ///< 0: the trained one
    std::string json;
};

/// Prints what a forward pass costs in floating-point operations. Needs no weights.
int flops(const FlopsOptions& options);

struct TokenizeOptions {
    std::string model;
    std::string tokenizer;
    std::vector<std::string> texts;
    std::string out;
    std::string json;
    std::string token_format;  ///< u16 or u32; empty: the one in which the vocabulary fits
    int threads = 0;
};

/// Writes the tokens of texts to a file that perplexity and training read.
int tokenize(const TokenizeOptions& options);

struct InspectOptions : ModelOptions {
    std::string json;
};

/// Prints a model's shape and what caches for it would hold.
int inspect(const InspectOptions& options);

struct TrainOptions : TrainingOptions {
    Index window = 256;
    Index dim = 192;
    Index layers = 6;
    Index heads = 6;
    Index kv_heads = 2;
    Index hidden = 512;
    double rope_base = 10000;
    bool shared_classifier = false;
};

/// Trains a new model, and writes it in Hugging Face layout.
int train(const TrainOptions& options);

struct FinetuneOptions : TrainingOptions {
    std::string model;
    bool full = false;               ///< weights themselves instead of an adapter
    std::vector<std::string> parts;  ///< of TrainedParts::names; empty: FreqKV's, or with `full` all
    Index rank = 8;
    double alpha = 16;
};

/// Trains a model further, and writes a PEFT adapter, or the whole model.
int finetune(const FinetuneOptions& options);

struct MergeOptions {
    std::string model;
    std::string adapter;
    std::string out;
    std::string type = "as-merged";  ///< of the weights that the adapter changed
};

/// Writes a Hugging Face model with an adapter merged into it, all or nothing.
int merge(const MergeOptions& options);

}  // namespace llama
