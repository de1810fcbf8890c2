// SPDX-License-Identifier: MIT
#include <functional>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "llama/program/command_line.hpp"
#include "llama/program/commands.hpp"
#include "llama/program/program.hpp"

namespace llama {

namespace {

void add_calibrate(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<CalibrateOptions>();
    CLI::App* const command = app.add_subcommand(
        "calibrate", "Share a budget among layers and heads by what a text shows of them, into a file for --budgets");
    add_sharing_options(*command, options->by, options->shared);
    command->add_option("--text", options->text, "UTF-8 text that is like those to come")
        ->type_name("FILE")
        ->required();
    command->add_option("--tokenizer", options->tokenizer, "[the model's own, or found beside it]")->type_name("FILE");
    command->add_option("--limit", options->limit, "Use the first N tokens only")
        ->check(number<Index>(1, most_tokens))
        ->capture_default_str()
        ->type_name("N");
    command->add_option("--out", options->out, "JSON file for the capacities")->type_name("FILE")->required();
    add_model_options(*command, *options);
    add_adapter_option(*command, *options);
    command->callback([options, &run] { run = with_threads(options, calibrate); });
}

void add_spectrum(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<SpectrumOptions>();
    CLI::App* const command =
        app.add_subcommand("spectrum", "Power spectra of a model's keys and values along a text, by layer and head");
    add_model_option(*command, options->model);
    command->add_option("--text", options->text, "UTF-8 text")->type_name("FILE")->required();
    command->add_option("--tokenizer", options->tokenizer, "[the model's own, or found beside it]")->type_name("FILE");
    command->add_option("--limit", options->limit, "Use the first N tokens only")
        ->check(number<Index>(1, most_tokens))
        ->capture_default_str()
        ->type_name("N");
    command
        ->add_option(
            "--window", options->window,
            "Tokens that are transformed at once, each window from an empty cache; what is left of the text is "
            "not read [the trained context, at most 2048]")
        ->check(number<Index>(1, most_tokens))
        ->type_name("W");
    command->add_option("--sinks", options->sinks, "First tokens of a window that are not transformed [4]")
        ->check(number<Index>(0, most_tokens))
        ->type_name("N");
    command
        ->add_option("--exchange", options->exchange,
                     "Read each window once more with this part of its tokens exchanged for others of the text, and "
                     "compare the coefficients")
        ->check(number(0.0, 1.0))
        ->type_name("P");
    command->add_option("--out", options->out, "Directory for the spectra as CSV files [the summary alone]")
        ->type_name("DIR");
    command->add_option("--json", options->json, "Write the summary as JSON, - for standard output")->type_name("FILE");
    add_threads_option(*command, options->threads);
    add_adapter_option(*command, *options);
    command->callback([options, &run] { run = with_threads(options, spectrum); });
}

void add_inspect(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<InspectOptions>();
    CLI::App* const command = app.add_subcommand("inspect", "A model's shape and the sizes of caches for it");
    command->add_option("--json", options->json, "Write it as JSON, - for standard output")->type_name("FILE");
    add_model_options(*command, *options);
    add_budget_options(*command, *options);
    command->callback([options, &run] { run = [options] { return inspect(*options); }; });
}

void add_policies(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<PoliciesOptions>();
    CLI::App* const command = app.add_subcommand("policies", "What can become of a full cache");
    command->add_option("--json", options->json, "Write it as JSON, - for standard output")->type_name("FILE");
    command->callback([options, &run] { run = [options] { return policies(*options); }; });
}

void add_flops(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<FlopsOptions>();
    CLI::App* const command =
        app.add_subcommand("flops", "Floating-point operations of a forward pass; a config.json is enough");
    command->add_option("--context", options->context, "Tokens of the text [the trained context]")
        ->check(number<Index>(1, most_tokens))
        ->type_name("N");
    command->add_option("--json", options->json, "Write it as JSON, - for standard output")->type_name("FILE");
    add_model_options(*command, *options);
    add_budget_options(*command, *options);
    command->callback([options, &run] { run = [options] { return flops(*options); }; });
}

}  // namespace

void add_measuring_commands(CLI::App& app, std::function<int()>& run) {
    add_calibrate(app, run);
    add_spectrum(app, run);
    add_inspect(app, run);
    add_policies(app, run);
    add_flops(app, run);
}

}  // namespace llama
