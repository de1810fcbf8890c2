// SPDX-License-Identifier: MIT
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "llama/program/commands.hpp"
#include "llama/program/run_commands.hpp"
#include "rpc.hpp"

namespace {

struct WorkerOptions {
    std::string endpoint = "127.0.0.1:50052";
    int threads = 0;
};

void add_worker(CLI::App& app, std::function<int()>& run) {
    auto options = std::make_shared<WorkerOptions>();
    CLI::App* const command = app.add_subcommand("worker", "Compute a part of a model for --rpc of another process");
    command
        ->add_option("--listen", options->endpoint,
                     "Where; there is no password, so let it be a network that you trust")
        ->capture_default_str()
        ->type_name("HOST:PORT");
    command->add_option("--threads", options->threads, "[all cores]")->check(CLI::Range(1, 4096))->type_name("N");
    command->callback([options, &run] {
        run = llama::with_threads(
            options, +[](const WorkerOptions& of) { return llama::run_rpc_worker(of.endpoint, of.threads); });
    });
}

void add_commands(CLI::App& app, std::function<int()>& run) {
    llama::add_model_commands(app, run);
    for (CLI::App* const command : app.get_subcommands([](CLI::App*) { return true; })) {
        command
            ->add_option_function<std::vector<std::string>>(
                "--rpc",
                [](const std::vector<std::string>& endpoints) {
                    for (const std::string& endpoint : endpoints) llama::add_rpc_worker(endpoint);
                },
                "Workers that share the layers: HOST:PORT of each, of processes `freqkv-llama-cpp worker`")
            ->delimiter(',')
            ->type_name("HOST:PORT,...")
            ->group("Model and cache");
    }
    add_worker(app, run);
}

}  // namespace

// freqkv-llama-cpp: the commands of freqkv-llama that let a model read and write, on an unmodified libllama.
int main(int argc, char** argv) {
    return llama::run_commands("freqkv-llama-cpp", "libllama with a cache that is compressed when it is full.", argc,
                               argv, add_commands);
}
