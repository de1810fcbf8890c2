// SPDX-License-Identifier: MIT
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "llama/program/command_line.hpp"
#include "llama/program/commands.hpp"
#include "llama/program/program.hpp"
#include "llama/tokenizers/chat_template.hpp"

namespace llama {

namespace {

// Options of a conversation.
template <class Options>
std::vector<CLI::Option*> add_chat_options(CLI::App* command, Options& options) {
    return {command->add_option("--system", options.system, "Said to the model before all else [the template's own]")
                ->type_name("TEXT"),
            command
                ->add_option("--template", options.chat_template,
                             "How messages are written, instead of what the model's template is recognised as: " +
                                 ChatTemplate::names())
                ->type_name("NAME")};
}

void add_generate(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<GenerateOptions>();
    CLI::App* const command = app.add_subcommand("generate", "Continue a text, past the model's window");
    command->add_option("--tokenizer", options->tokenizer, "[the model's own, or found beside it]")->type_name("FILE");
    CLI::Option* const prompt =
        command
            ->add_option("--prompt", options->prompt, "Text to continue, - for standard input; it is written out first")
            ->type_name("TEXT");
    command->add_option("--prompt-file", options->prompt_file, "The same from a file")
        ->type_name("FILE")
        ->excludes(prompt);
    command->add_option("--tokens", options->tokens, "Tokens to generate after the prompt")
        ->check(number<Index>(0, most_tokens))
        ->capture_default_str()
        ->type_name("N");
    add_sampler_options(*command, options->sampler);
    command->add_flag("--ignore-eos", options->ignore_eos, "Go on behind the end-of-text token");
    CLI::Option* const chat =
        command->add_flag("--chat", options->chat, "The prompt is a user's message; only the reply is written");
    for (CLI::Option* const option : add_chat_options(command, *options)) option->needs(chat);
    add_model_options(*command, *options);
    add_budget_options(*command, *options);
    add_adapter_option(*command, *options);
    add_device_option(*command, *options);
    command->callback([options, &run] { run = with_threads(options, generate); });
}

void add_chat(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<ChatOptions>();
    CLI::App* const command = app.add_subcommand("chat", "Talk with a model, for as long as you like");
    command->add_option("--tokenizer", options->tokenizer, "[the model's own, or found beside it]")->type_name("FILE");
    add_chat_options(command, *options);
    command->add_option("--tokens", options->tokens, "Most tokens of a reply")
        ->check(number<Index>(1, most_tokens))
        ->capture_default_str()
        ->type_name("N");
    add_sampler_options(*command, options->sampler);
    command->add_flag("--verbose", options->verbose, "After each reply, say how fast it was");
    add_model_options(*command, *options);
    add_budget_options(*command, *options);
    add_adapter_option(*command, *options);
    add_device_option(*command, *options);
    command->get_option("--capacity")
        ->description("Entries of the cache [the model's trained context, or its sliding window; at most 8192]");
    command->get_option("--sinks")->description(
        "First entries that are kept as they are [what is said before the first message]");
    command->get_option("--recent")
        ->description("Latest entries that a compression leaves as they are [low-pass: three quarters of the others]");
    command->callback([options, &run] { run = with_threads(options, chat); });
}

void add_perplexity(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<PerplexityOptions>();
    CLI::App* const command = app.add_subcommand("perplexity", "How well a model with a bounded cache predicts a text");
    CLI::Option* const ids =
        command->add_option("--token-file", options->token_file, "Token ids instead of a text")->type_name("FILE");
    command
        ->add_option("--token-format", options->token_format,
                     "decimal: separated by white space; u16, u32: binary, 16 or 32 bits each, little-endian")
        ->check(CLI::IsMember(std::vector<std::string>{"decimal", "u16", "u32"}))
        ->capture_default_str()
        ->type_name("")
        ->needs(ids);
    command
        ->add_option("--text", options->text, "UTF-8 text; a begin-of-text token is put before it if the model has one")
        ->type_name("FILE")
        ->excludes(ids);
    command->add_option("--tokenizer", options->tokenizer, "For --text [the model's own, or found beside it]")
        ->type_name("FILE");
    command->add_option("--limit", options->limit, "Use the first N tokens only")
        ->check(number<Index>(1, most_tokens))
        ->type_name("N");
    command->add_option("--skip", options->skip, "Leave out the first N tokens of the text")
        ->check(number<Index>(0, most_tokens))
        ->type_name("N");
    CLI::Option* const window =
        command->add_option("--window", options->window, "Windows of W tokens, each from an empty cache")
            ->check(number<Index>(2, most_tokens))
            ->type_name("W");
    CLI::Option* const stride = command->add_option("--stride", options->stride, "Tokens from one window to the next")
                                    ->check(number<Index>(1, most_tokens))
                                    ->type_name("S");
    window->needs(stride);
    stride->needs(window);
    command->add_option("--score-last", options->score_last, "Count the last N targets of each window only [all]")
        ->check(number<Index>(1, most_tokens))
        ->type_name("N")
        ->needs(window);
    command->add_option("--json", options->json, "Write the result and all losses, - for standard output")
        ->type_name("FILE");
    command->add_flag("--resume", options->resume,
                      "Go on where an interrupted run with the same options stopped; its progress is in "
                      "<JSON file>.partial, or freqkv-perplexity.partial here");
    add_model_options(*command, *options);
    add_budget_options(*command, *options);
    add_adapter_option(*command, *options);
    add_device_option(*command, *options);
    command->callback([options, &run] { run = with_threads(options, perplexity); });
}

void add_evaluate(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<EvaluateOptions>();
    options->tasks = {"passkey"};
    CLI::App* const command = app.add_subcommand("evaluate", "What a model finds in long texts with a bounded cache");
    command
        ->add_option(
            "TASK", options->tasks,
            "passkey; needle (in --text); niah_single_1, niah_multikey_2, niah_multikey_3, vt, cwe, fwe: as "
            "RULER defines them, in other words; passage (of --text, that comes again); mqar, forgetting-mqar; "
            "divergence (from a full cache, over --text); or a file of RULER's or LongBench's samples (JSONL)")
        ->type_name("")
        ->capture_default_str();
    command
        ->add_option(
            "--length", options->lengths,
            "Tokens of a sample with its question and reply; longer ones of a file lose their middle [2048; those of "
            "files as they are]")
        ->check(number<Index>(1, most_tokens))
        ->type_name("N...");
    command->add_option("--samples", options->samples, "Samples of each task, length and place")
        ->check(number<Index>(1, 1 << 20))
        ->capture_default_str()
        ->type_name("N");
    command
        ->add_option("--depths", options->depths,
                     "So many places of what is asked for, each with --samples samples [one for each sample]")
        ->check(number<Index>(1, 1000))
        ->type_name("N");
    command->add_option("--distances", options->distances, "Tokens after which a passage comes again")
        ->check(number<Index>(1, most_tokens))
        ->capture_default_str()
        ->type_name("N...");
    command->add_option("--text", options->text, "UTF-8 text for needle, passage and divergence")->type_name("FILE");
    command->add_option("--tokenizer", options->tokenizer, "[the model's own, or found beside it]")->type_name("FILE");
    command
        ->add_option("--template", options->chat_template,
                     "How a question is put, instead of what the model's template is recognised as; none: as a text "
                     "to go on with")
        ->type_name("NAME");
    command->add_flag("--question-aware", options->question_aware,
                      "Ask before the context, too, so that compressions can know what is asked for");
    command->add_option("--longbench", options->longbench, "Directory of LongBench's dataset2prompt.json")
        ->type_name("DIR");
    command->add_option("--seed", options->seed, "Equal seeds give equal samples")
        ->check(number(std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max()))
        ->capture_default_str()
        ->type_name("N");
    command
        ->add_option("--out", options->out,
                     "Directory for predictions.csv, metrics.json and config.yaml, and meanwhile what --resume needs")
        ->type_name("DIR");
    command->add_option("--json", options->json, "Write the results as JSON, - for standard output")->type_name("FILE");
    command->add_flag("--resume", options->resume,
                      "Go on where an interrupted run with the same options stopped; its progress is in --out DIR, or "
                      "here");
    command
        ->add_option("--jobs", options->jobs, "Samples at once, which share the threads; results do not depend on it")
        ->check(number<int>(1, 256))
        ->capture_default_str()
        ->type_name("N");
    add_model_options(*command, *options);
    add_budget_options(*command, *options);
    add_adapter_option(*command, *options);
    add_device_option(*command, *options);
    command->callback([options, &run] { run = with_threads(options, evaluate); });
}

}  // namespace

void add_model_commands(CLI::App& app, std::function<int()>& run) {
    add_generate(app, run);
    add_chat(app, run);
    add_perplexity(app, run);
    add_evaluate(app, run);
}

}  // namespace llama
