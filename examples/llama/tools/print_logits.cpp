// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "llama/program/command_line.hpp"
#include "llama/program/host_models.hpp"
#include "llama/program/open_model.hpp"

// Prints the logits that a model computes, so that tools/check_model.py can compare them with those of other software.
int main(int argc, char** argv) {
    try {
        CLI::App app("Print the logits of a model after each token as JSON, a list for each token.", "print-logits");
        llama::ModelOptions options;
        std::vector<llama::Token> tokens;
        llama::add_model_options(app, options);
        app.add_option("TOKEN", tokens, "Ids of the tokens that the model reads")->required();
        try {
            app.parse(argc, argv);
        } catch (const CLI::Success& success) {
            return app.exit(success);
        } catch (const CLI::ParseError& error) {
            std::fprintf(stderr, "print-logits: %s\n", error.what());
            return 2;
        }
        const llama::Checkpoint checkpoint = llama::open_model(options);
        const llama::Index vocabulary = checkpoint.config.vocabulary;
        for (const llama::Token token : tokens) {
            if (token < 0 || token >= vocabulary) {
                throw llama::UsageError("token " + std::to_string(token) + " is not below the vocabulary's " +
                                        std::to_string(vocabulary));
            }
        }
        const auto count = static_cast<llama::Index>(tokens.size());
        const llama::CacheSettings settings = llama::resolve(options, checkpoint.config, count);
        nlohmann::json rows = nlohmann::json::array();
        llama::check_capacity(checkpoint.config, settings);
        const std::unique_ptr<llama::LanguageModel> model =
            llama::make_host_model(checkpoint, settings, options.threads);
        const auto chunk = static_cast<std::size_t>(options.prefill_chunk);
        for (std::span<const llama::Token> rest(tokens); !rest.empty();) {
            const std::span<const llama::Token> piece = rest.first(std::min(chunk, rest.size()));
            rest = rest.subspan(piece.size());
            model->forward(piece);
            for (std::size_t i = 0; i < piece.size(); ++i) {
                const std::span<const float> logits = model->logits(static_cast<llama::Index>(i), 1);
                rows.push_back(std::vector<float>(logits.begin(), logits.end()));
            }
        }
        std::printf("%s\n", rows.dump().c_str());
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "print-logits: %s\n", error.what());
        return 1;
    }
}
