// SPDX-License-Identifier: MIT
#include "llama/program/run_commands.hpp"

#include <cstdio>
#include <exception>
#include <new>
#include <sstream>
#include <string>

#include "freqkv/version.hpp"
#include "llama/io/mappings.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/io/visible_text.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

// Always one line, whatever the message quotes.
int fail(const char* program, std::string message, int status) {
    constexpr std::size_t longest = 8192;
    for (char& c : message) {
        if (c == '\n') c = ' ';  // the command line's own messages have them
    }
    std::fprintf(stderr, "%s: %s\n", program, visible(message, longest).c_str());
    return status;
}

std::string names_of_commands(const CLI::App& app) {
    std::string names;
    const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
    for (std::size_t i = 0; i < commands.size(); ++i) {
        names += (i == 0 ? "" : i + 1 < commands.size() ? ", " : " or ") + commands[i]->get_name();
    }
    return names;
}

}  // namespace

int run_commands(const char* name, const char* what, int argc, char** argv, AddCommands add_commands) {
    try {
        Mappings::install_handler();
        CLI::App app(what, name);
        app.set_version_flag("--version", std::string(name) + " " + std::to_string(freqkv::version.major) + "." +
                                              std::to_string(freqkv::version.minor) + "." +
                                              std::to_string(freqkv::version.patch));
        app.require_subcommand(0, 1);
        app.footer(std::string(name) + " COMMAND --help lists the options of a command.");
        std::function<int()> run;
        add_commands(app, run);
        try {
            app.parse(argc, argv);
        } catch (const CLI::Success& success) {  // --help, --version
            std::ostringstream text;
            const int status = app.exit(success, text);
            TextOutput().write(text.str());
            return status;
        } catch (const CLI::ParseError& error) {
            return fail(name, error.what(), 2);
        }
        if (!run) return fail(name, "give a command: " + names_of_commands(app) + " (--help lists them)", 2);
        return run();
    } catch (const UsageError& error) {
        return fail(name, error.what(), 2);
    } catch (const std::bad_alloc&) {
        return fail(name, "not enough memory; smaller texts, caches or batches need less", 1);
    } catch (const std::exception& error) {
        return fail(name, error.what(), 1);
    }
}

}  // namespace llama
