// SPDX-License-Identifier: MIT
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>

#include "llama/file.hpp"
#include "llama/random_checkpoint.hpp"

// Writes a small checkpoint of random weights and a tokenizer for it, so that freqkv-llama can be tried
// where no model is at hand. What such a model writes is noise.
int main(int argc, char** argv) {
    try {
        CLI::App app("Write a seeded random Llama checkpoint and its tokenizer.", "make-random-checkpoint");
        std::string model;
        std::string tokenizer;
        std::uint64_t seed = 1;
        app.add_option("MODEL_OUT", model, "Checkpoint to write (llama2.c legacy, float32)")->required();
        app.add_option("TOKENIZER_OUT", tokenizer, "Tokenizer to write (llama2.c)")->required();
        app.add_option("--seed", seed, "Equal seeds give equal files")->capture_default_str()->type_name("N");
        try {
            app.parse(argc, argv);
        } catch (const CLI::Success& success) {
            return app.exit(success);
        } catch (const CLI::ParseError& error) {
            std::fprintf(stderr, "make-random-checkpoint: %s\n", error.what());
            return 2;
        }
        llama::Config config;
        config.dim = 64;
        config.hidden = 172;
        config.layers = 5;
        config.heads = 8;
        config.kv_heads = 4;
        config.vocabulary = 512;
        config.context = 512;
        config.shared_classifier = false;  // else the last token would be the most likely next one
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
