// SPDX-License-Identifier: MIT
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "llama/program/command_line.hpp"
#include "llama/program/commands.hpp"
#include "llama/program/program.hpp"
#include "llama/program/run_commands.hpp"
#include "llama/training/trained_parts.hpp"

// freqkv-llama: the reference Llama.
namespace {

using llama::Index;

void add_fetch(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<llama::FetchOptions>();
    CLI::App* const command = app.add_subcommand("fetch", "Download a model that --model then takes by its name");
    command->add_option("NAME", options->model, "[list what there is]")->type_name("");
    command->callback([options, &run] { run = [options] { return llama::fetch(*options); }; });
}

void add_tokenize(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<llama::TokenizeOptions>();
    CLI::App* const command = app.add_subcommand("tokenize", "Write the tokens of texts as little-endian numbers");
    command->add_option("--tokenizer", options->tokenizer, "[the model's own, or found beside it]")->type_name("FILE");
    command->add_option("--model", options->model, "Model that the tokens are for")
        ->type_name("PATH")
        ->transform(llama::model_path());
    command
        ->add_option("--text", options->texts,
                     "UTF-8 texts; a begin-of-text token is put before each if the tokenizer has one")
        ->type_name("FILE")
        ->required();
    command->add_option("--out", options->out, "File for the tokens")->type_name("FILE")->required();
    command
        ->add_option("--token-format", options->token_format,
                     "u16, u32: 16 or 32 bits each [u16 unless the vocabulary has more than 65536 tokens]")
        ->check(CLI::IsMember(std::vector<std::string>{"u16", "u32"}))
        ->type_name("");
    command->add_option("--threads", options->threads, "Threads; the tokens do not depend on them [all cores]")
        ->check(llama::number<int>(1, 1024))
        ->type_name("N");
    command->add_option("--json", options->json, "Write the counts as JSON, - for standard output")->type_name("FILE");
    command->callback([options, &run] { run = llama::with_threads(options, llama::tokenize); });
}

void add_merge(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<llama::MergeOptions>();
    CLI::App* const command = app.add_subcommand("merge", "Write a model with an adapter merged into it");
    command->add_option("--model", options->model, "Hugging Face model")
        ->type_name("DIR")
        ->required()
        ->transform(llama::model_path());
    command->add_option("--adapter", options->adapter, "PEFT adapter (LoRA)")->type_name("DIR")->required();
    command->add_option("--out", options->out, "Directory for the merged model, new or empty")
        ->type_name("DIR")
        ->required();
    command->add_option("--type", options->type, "How the changed weights are stored; as-merged: exactly")
        ->check(CLI::IsMember(std::vector<std::string>{"as-merged", "f32", "f16", "bf16"}))
        ->capture_default_str();
    command->callback([options, &run] { run = [options] { return llama::merge(*options); }; });
}

void add_train(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<llama::TrainOptions>();
    options->policy = llama::PolicyName::full;
    options->learning_rate = 2e-3;
    options->schedule = "cosine";
    options->warmup = 100;
    options->weight_decay = 0.1;
    CLI::App* const command = app.add_subcommand("train", "Train a new Llama from scratch");
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command->add_option(name, value, description)->type_name(type)->group("Model")->capture_default_str();
    };
    const auto size = llama::number<Index>(1, 1 << 20);
    command->add_option("--tokenizer", options->tokenizer, "tokenizer.model or tokenizer.json; sets the vocabulary")
        ->type_name("FILE")
        ->group("Model")
        ->required();
    add("--window", options->window, "Tokens that the model is said to be trained on at once", "N")->check(size);
    add("--dim", options->dim, "Width of the residual stream", "N")->check(size);
    add("--layers", options->layers, "Transformer blocks", "N")->check(size);
    add("--heads", options->heads, "Query heads, of dim / heads dimensions", "N")->check(size);
    add("--kv-heads", options->kv_heads, "Key and value heads", "N")->check(size);
    add("--hidden", options->hidden, "Width inside the feed-forward blocks", "N")->check(size);
    add("--rope-base", options->rope_base, "Of the rotary frequencies", "X")->check(llama::number(1.0, 1e12));
    command->add_flag("--tie", options->shared_classifier, "The embedding is the output projection, too")
        ->group("Model");
    llama::add_training_options(*command, *options);
    command->callback([options, &run] { run = llama::with_threads(options, llama::train); });
}

void add_finetune(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<llama::FinetuneOptions>();
    options->learning_rate = 2e-5;
    CLI::App* const command =
        app.add_subcommand("finetune", "Teach a model to read its compressed cache: a LoRA adapter, or all weights");
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command->add_option(name, value, description)->type_name(type)->group("Model");
    };
    llama::add_model_option(*command, options->model)->group("Model");
    add("--tokenizer", options->tokenizer, "For --text and --instructions [the model's own]", "FILE");
    CLI::Option* const full =
        command->add_flag("--full", options->full, "Train the weights themselves and write a whole model")
            ->group("Model");
    add("--train", options->parts,
        "What is trained, as q,k,v,o. An adapter has low-rank factors for projections (q, k, v, o, gate, up, down) and "
        "whole tensors for the others; with the embedding and the norms a model learns most of what its compressed "
        "cache "
        "needs, without them the adapter is small [q,k,v,o,embedding,norms; with --full everything]",
        "PARTS")
        ->delimiter(',')
        ->check(CLI::IsMember(
            std::vector<std::string>(llama::TrainedParts::names.begin(), llama::TrainedParts::names.end())));
    add("--rank", options->rank, "Of the low-rank factors", "N")
        ->check(llama::number<Index>(1, 1 << 16))
        ->capture_default_str()
        ->excludes(full);
    add("--alpha", options->alpha, "The adaptation is scaled by alpha / rank", "X")
        ->check(llama::number(0.0, 1e6))
        ->capture_default_str()
        ->excludes(full);
    llama::add_training_options(*command, *options);
    command->callback([options, &run] { run = llama::with_threads(options, llama::finetune); });
}

}  // namespace

int main(int argc, char** argv) {
    return llama::run_commands("freqkv-llama", "A Llama whose memory of the text never outgrows its window.", argc,
                               argv, [](CLI::App& app, std::function<int()>& run) {
                                   llama::add_model_commands(app, run);
                                   llama::add_measuring_commands(app, run);
                                   add_tokenize(app, run);
                                   add_train(app, run);
                                   add_finetune(app, run);
                                   add_merge(app, run);
                                   add_fetch(app, run);
                               });
}
