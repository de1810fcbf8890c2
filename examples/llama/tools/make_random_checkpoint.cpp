// SPDX-License-Identifier: MIT
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>

#include "llama/formats/llama2c_checkpoint.hpp"
#include "llama/formats/random_checkpoint.hpp"
#include "llama/io/atomic_file.hpp"
#include "llama/io/file.hpp"
#include "llama/model/config.hpp"
#include "llama/program/command_line.hpp"

// Writes a checkpoint of random weights, small unless other sizes are asked for, and a tokenizer for it, so
// that freqkv-llama can be tried where no model is at hand. What such a model writes is noise.
int main(int argc, char** argv) {
    try {
        CLI::App app("Write a seeded random Llama checkpoint and its tokenizer.", "make-random-checkpoint");
        std::string model;
        std::string tokenizer;
        std::uint64_t seed = 1;
        app.add_option("MODEL_OUT", model, "Checkpoint to write (llama2.c legacy, float32)")->required();
        app.add_option("TOKENIZER_OUT", tokenizer, "Tokenizer to write (llama2.c)")->required();
        app.add_option("--seed", seed, "Equal seeds give equal files")->capture_default_str()->type_name("N");
        llama::Config config;
        config.shared_classifier = false;  // else the last token would be the most likely next one
        const auto add_size = [&](const char* name, llama::Index& size, llama::Index value, const char* description,
                                  llama::Index least = 1) {
            size = value;
            app.add_option(name, size, description)
                ->check(llama::number<llama::Index>(least, llama::Index{1} << 24))
                ->capture_default_str()
                ->type_name("N");
        };
        add_size("--dim", config.dim, 64, "Width of the residual stream");
        add_size("--hidden", config.hidden, 172, "Width inside the feed-forward block");
        add_size("--layers", config.layers, 5, "Transformer blocks");
        add_size("--heads", config.heads, 8, "Query heads");
        add_size("--kv-heads", config.kv_heads, 4, "Key and value heads");
        add_size("--vocabulary", config.vocabulary, 512, "Pieces of the tokenizer", 512);
        add_size("--context", config.context, 512, "Tokens the model is said to be trained on at once");
        try {
            app.parse(argc, argv);
        } catch (const CLI::Success& success) {
            return app.exit(success);
        } catch (const CLI::ParseError& error) {
            std::fprintf(stderr, "make-random-checkpoint: %s\n", error.what());
            return 2;
        }
        llama::complete_llama2c_config(config, model);
        const llama::AtomicFile model_file(model);
        const llama::AtomicFile tokenizer_file(tokenizer);
        model_file.write(llama::random_checkpoint(config, llama::CheckpointFormat::legacy, seed));
        tokenizer_file.write(llama::syllable_tokenizer(config.vocabulary));
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "make-random-checkpoint: %s\n", error.what());
        return 1;
    }
}
