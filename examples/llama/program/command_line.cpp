// SPDX-License-Identifier: MIT
#include "llama/program/command_line.hpp"

#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

#include "llama/program/budgets.hpp"
#include "llama/program/known_models.hpp"

namespace llama {

template <class Value>
CLI::Validator number(Value least, Value most) {
    const auto check = [least, most](const std::string& text) -> std::string {
        Value value{};
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool whole = error == std::errc{} && end == text.data() + text.size();
        if (whole && value >= least && value <= most) return {};
        std::ostringstream message;
        message << '"' << text << "\" is not a " << (std::is_integral_v<Value> ? "whole " : "") << "number of at least "
                << least;
        if (most < std::numeric_limits<Value>::max()) message << " and at most " << most;
        return message.str();
    };
    return CLI::Validator(check, "");
}

template CLI::Validator number(Index, Index);
template CLI::Validator number(int, int);
template CLI::Validator number(double, double);
template CLI::Validator number(std::uint64_t, std::uint64_t);

namespace {

// Names that stand for values; find(name) is the value of one of `names`.
template <class Value, class Find>
CLI::Option* add_choice(CLI::App& command, const std::string& name, Value& value, const std::string& description,
                        const std::vector<std::string>& names, Find find) {
    return command
        .add_option_function<std::string>(
            name,
            [&value, find](const std::string& chosen) {
                if constexpr (requires { value = find(chosen); }) {
                    value = find(chosen);  // an optional one
                } else {
                    value = find(chosen).value();
                }
            },
            description)
        ->check(CLI::IsMember(names))
        ->type_name("");
}

void add_policy_options(CLI::App& command, PolicyOptions& options, bool for_training, const std::string& group) {
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command.add_option(name, value, description)->type_name(type)->group(group);
    };
    const auto read = [&options, for_training](const std::string& text) {
        const PolicyChoice choice = parse_policy(text);
        const PolicyTraits traits = traits_of(choice.name);
        if (traits.use == (for_training ? PolicyUse::host : PolicyUse::training)) {
            throw UsageError(std::string(traits.name) +
                             (for_training ? " cannot be trained with" : " is for training only"));
        }
        options.policy = choice.name;
        options.parameters = choice.given;
    };
    const auto read_option = [read](const std::string& text) {
        try {
            read(text);
        } catch (const UsageError& error) {
            throw CLI::ValidationError("--policy", error.what());
        }
    };
    command
        .add_option_function<std::string>(
            "--policy", read_option,
            "What becomes of a full cache: a name, or one with numbers as in snapkv:window=16,pool=1; "
            "`freqkv-llama policies` lists them")
        ->type_name("NAME")
        ->default_str(to_string(options.policy))
        ->group(group);
    add("--capacity", options.capacity, "Entries of the cache [the model's trained context, or its sliding window]",
        "N")
        ->check(number<Index>(1, most_tokens));
    add("--sinks", options.sinks, "First entries that are kept as they are [4]", "N")
        ->check(number<Index>(0, most_tokens));
    add("--recent", options.recent,
        "Latest entries that a compression leaves as they are [0; of policies that choose: a quarter]", "N")
        ->check(number<Index>(0, most_tokens));
    add("--ratio", options.ratio,
        "Part that a compression keeps of what lies between them [0.5; of policies that choose: 0.9]", "R");
}

// Whether they are those of the text.
std::optional<bool> find_text_positions(const std::string& name) {
    if (name == "index" || name == "text") return name == "text";
    return std::nullopt;
}

std::optional<CalibrateBy> find_calibrate_by(const std::string& name) {
    for (const CalibrateBy by : {CalibrateBy::retrieval, CalibrateBy::energy}) {
        if (name == to_string(by)) return by;
    }
    return std::nullopt;
}

std::optional<BudgetBy> find_budget_by(const std::string& name) {
    for (const BudgetBy by : {BudgetBy::uniform, BudgetBy::pyramid}) {
        if (name == to_string(by)) return by;
    }
    return std::nullopt;
}

}  // namespace

CLI::Validator model_path() {
    const auto resolve = [](std::string& given) -> std::string {
        given = resolve_model_path(given);
        return {};
    };
    return CLI::Validator(resolve, "");
}

CLI::Option* add_model_option(CLI::App& command, std::string& model) {
    return command
        .add_option("--model", model,
                    "Directory in Hugging Face layout, GGUF file, llama2.c file, or name of a fetched model")
        ->type_name("PATH")
        ->required()
        ->transform(model_path());
}

void add_threads_option(CLI::App& command, int& threads) {
    command.add_option("--threads", threads, "Threads; the result does not depend on them [all cores]")
        ->check(number<int>(1, 1024))
        ->type_name("N");
}

void add_model_options(CLI::App& command, ModelOptions& options) {
    const std::string group = "Model and cache";
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command.add_option(name, value, description)->type_name(type)->group(group);
    };
    add_model_option(command, options.model)->group(group);
    add_policy_options(command, options, false, group);
    const auto bytes_only = [](const std::string& text) -> std::string {
        if (parse_byte_count(text)) return {};
        return '"' + text + "\" is not a number of bytes, as 4194304, 4096KiB, 4MiB or 1.5GiB";
    };
    command
        .add_option_function<std::string>(
            "--budget", [&options](const std::string& text) { options.budget = parse_byte_count(text); },
            "Instead of a capacity: bytes that keys, values and what is kept beside them may take in all layers")
        ->check(CLI::Validator(bytes_only, ""))
        ->type_name("BYTES")
        ->group(group)
        ->excludes(command.get_option("--capacity"));
    std::vector<std::string> types;
    types.reserve(all_of<CacheType>.size());
    for (const CacheType type : all_of<CacheType>) types.emplace_back(to_string(type));
    add_choice(command, "--cache-type", options.cache_type, "How keys and values are stored [f32]", types,
               find_cache_type)
        ->group(group);
    add_choice(
        command, "--positions", options.text_positions,
        "Where keys and queries are rotated: index, the paper's, that of an entry in the cache, or text, the middle "
        "of the tokens that an entry stands for",
        {"index", "text"}, find_text_positions)
        ->default_str("index")
        ->group(group);
    command
        .add_flag("--weighted", options.weighted,
                  "Entries count in attention as often as they stand for tokens; with --positions text")
        ->group(group);
    add_threads_option(command, options.threads);
    command.get_option("--threads")->group(group);
    add("--prefill-chunk", options.prefill_chunk, "Tokens that are fed at once", "N")
        ->check(number<Index>(1, most_tokens))
        ->capture_default_str();
}

void add_budget_options(CLI::App& command, ModelOptions& options) {
    const std::string group = "Model and cache";
    CLI::Option* const by =
        add_choice(command, "--budget-by", options.budget_by,
                   "How layers share that many bytes, or a capacity: uniform, or pyramid, most to the first layers",
                   {to_string(BudgetBy::uniform), to_string(BudgetBy::pyramid)}, find_budget_by)
            ->default_str(to_string(options.budget_by))
            ->group(group);
    command
        .add_option(
            "--budgets", options.budgets,
            "Capacities of all layers and heads, as `freqkv-llama calibrate` wrote them; sinks, recent part and "
            "ratio are the file's unless given")
        ->type_name("FILE")
        ->group(group)
        ->excludes(command.get_option("--capacity"), command.get_option("--budget"), by);
}

void add_sharing_options(CLI::App& command, CalibrateBy& by, std::optional<double>& shared) {
    add_choice(command, "--by", by,
               "What entries go by: retrieval, how much a head looks back at where the same token came before, or "
               "energy, what compressions discard of its keys and values",
               {to_string(CalibrateBy::retrieval), to_string(CalibrateBy::energy)}, find_calibrate_by)
        ->default_str(to_string(by));
    command
        .add_option("--shared", shared,
                    "Part of the entries that goes by that; the rest is alike for all [retrieval: 0.5, energy: 1]")
        ->check(number(0.0, 1.0))
        ->type_name("S");
}

void add_adapter_option(CLI::App& command, ModelOptions& options) {
    command
        .add_option("--adapter", options.adapter, "Directory of a LoRA adapter (PEFT), merged into the model in memory")
        ->type_name("DIR")
        ->group("Model and cache");
}

void add_device_option(CLI::App& command, ModelOptions& options) {
    command
        .add_flag("--exact", options.exact,
                  "On the processor, multiply weights with activations as they are [true]; --exact=false rounds "
                  "activations for quantised and BF16 weights, which is faster")
        ->group("Model and cache");
    command.add_option("--device", options.device, "Where the model runs; cuda: an NVIDIA GPU")
        ->type_name("")
        ->group("Model and cache")
        ->check(CLI::IsMember(std::vector<std::string>{"cpu", "cuda"}))
        ->capture_default_str();
    command.get_option("--cache-type")
        ->description("How keys and values are stored [f32; on a GPU that of the weights]");
}

void add_sampler_options(CLI::App& command, SamplerOptions& sampler) {
    command.add_option("--temperature", sampler.temperature, "0: always the most likely token")
        ->check(number(0.0, 1e6))
        ->capture_default_str()
        ->type_name("T");
    command.add_option("--top-k", sampler.top_k, "Draw from the K most likely tokens only; 0: from all")
        ->check(number<Index>(0, most_tokens))
        ->capture_default_str()
        ->type_name("K");
    command
        .add_option("--top-p", sampler.top_p,
                    "Draw from the likeliest tokens that have probability P together; 0 or 1: from all")
        ->check(number(0.0, 1.0))
        ->capture_default_str()
        ->type_name("P");
    command.add_option("--seed", sampler.seed, "Equal seeds give equal texts")
        ->check(number(std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max()))
        ->capture_default_str()
        ->type_name("N");
}

void add_training_options(CLI::App& command, TrainingOptions& options) {
    std::string group = "Data";
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command.add_option(name, value, description)->type_name(type)->group(group);
    };
    const auto count = number<Index>(1, most_tokens);
    CLI::Option* const text = add("--text", options.texts, "UTF-8 texts, one after the other", "FILE...");
    CLI::Option* const ids =
        add("--token-file", options.token_file, "Token ids instead of texts", "FILE")->excludes(text);
    add("--instructions", options.instructions,
        "JSON array of objects with \"instruction\", \"input\" and \"output\"; the loss is that of the output", "FILE")
        ->excludes(text)
        ->excludes(ids);
    add("--token-format", options.token_format, "As for perplexity", "")
        ->needs(ids)
        ->check(CLI::IsMember(std::vector<std::string>{"decimal", "u16", "u32"}))
        ->capture_default_str();
    add("--valid", options.validation, "Text, tokens or records (as above) to measure the loss on", "FILE");
    add("--valid-every", options.validate_every, "Steps from one such measurement to the next", "N")
        ->check(count)
        ->capture_default_str();
    add("--valid-texts", options.validation_texts, "How many texts of --length tokens it is measured on", "N")
        ->check(count)
        ->capture_default_str();
    add("--length", options.length, "Tokens of a text [the model's window]", "N")->check(count);

    group = "Training";
    // A saved state has a line for each step, in a header that readers do not take at any length.
    add("--steps", options.steps, "Updates of the weights", "N")
        ->check(number<Index>(1, 500'000))
        ->capture_default_str();
    add("--batch", options.batch, "Texts of each step; a thread takes some at a time, the gradients are added up", "N")
        ->check(count)
        ->capture_default_str();
    add("--learning-rate", options.learning_rate, "Its peak", "X")->check(number(0.0, 1e3))->capture_default_str();
    add("--schedule", options.schedule, "What it does after the warm-up; cosine falls to a tenth", "")
        ->check(CLI::IsMember(std::vector<std::string>{"constant", "cosine"}))
        ->capture_default_str();
    add("--warmup", options.warmup, "Steps over which it rises", "N")
        ->check(number<Index>(0, most_tokens))
        ->capture_default_str();
    add("--weight-decay", options.weight_decay, "Of matrices", "X")->check(number(0.0, 1e3))->capture_default_str();
    add("--beta1", options.beta1, "Of AdamW", "X")->check(number(0.0, 0.9999))->capture_default_str();
    add("--beta2", options.beta2, "Of AdamW", "X")->check(number(0.0, 0.99999))->capture_default_str();
    add("--clip", options.clip, "Greatest norm of the gradient; 0: any", "X")
        ->check(number(0.0, 1e9))
        ->capture_default_str();
    add("--seed", options.seed, "Of the order of the data and of new weights", "N")
        ->check(number(std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max()))
        ->capture_default_str();
    add_threads_option(command, options.threads);
    command.get_option("--threads")->group(group);
    add("--activations", options.activations,
        "keep those of all layers for the way back, or recompute each layer's there: a fifth more time, a sixth of "
        "their "
        "memory, the same result [keep, unless they would take a quarter of the machine's memory]",
        "")
        ->check(CLI::IsMember(std::vector<std::string>{"keep", "recompute"}));

    add_policy_options(command, options, true, "Cache");

    group = "Output";
    add("--out", options.out, "Directory for the result, the loss curve and what --resume needs", "DIR")->required();
    add("--type", options.type, "How the weights are stored", "")
        ->check(CLI::IsMember(std::vector<std::string>{"bf16", "f32"}))
        ->capture_default_str();
    add("--save-every", options.save_every, "Steps from one saved state to the next", "N")
        ->check(count)
        ->capture_default_str();
    command
        .add_flag("--resume", options.resume, "Go on where an interrupted run with the same options saved its state")
        ->group(group);
    add("--json", options.json, "Write a summary as JSON, - for standard output", "FILE");
}

}  // namespace llama
