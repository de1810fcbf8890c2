// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "llama/io/format.hpp"
#include "llama/io/visible_text.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/program/budgets.hpp"
#include "llama/program/conversation.hpp"
#include "llama/program/line_reader.hpp"
#include "llama/program/open_language_model.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/chat_template_file.hpp"

namespace llama {

namespace {

constexpr const char* help =
    "/clear         forget the conversation\n"
    "/system TEXT   the same, and from now on say TEXT to the model first\n"
    "/cache         what the cache holds, and how fast the model is\n"
    "/exit          end, as Ctrl-D does\n"
    "A line that ends with \\ goes on in the next one; one that begins with // is said with one of them.\n"
    "Ctrl-C stops a reply.\n";

std::string describe_rates(const Reply& reply) {
    const auto rate = [](Index tokens, double seconds) {
        return seconds > 0 ? format("%.1f", static_cast<double>(tokens) / seconds) : std::string("-");
    };
    return format("%lld tokens read (", static_cast<long long>(reply.read)) + rate(reply.read, reply.read_seconds) +
           format(" tokens/s), %lld written (", static_cast<long long>(reply.written)) +
           rate(reply.written, reply.written_seconds) + " tokens/s)";
}

class Chat {
public:
    Chat(const ChatOptions& options, LanguageModel& model, const Tokenizer& tokenizer,
         const ChatTemplate& chat_template, const CacheSettings& settings)
        : options_(options),
          model_(model),
          policy_(to_string(settings.policy)),
          conversation_(model, tokenizer, chat_template, options.sampler, options.prefill_chunk) {}

    // Returns the exit status.
    int run() {
        if (lines_.on_terminal()) note("/help lists commands; Ctrl-D ends\n");
        bool interrupted = false;
        while (true) {
            std::string message;
            switch (read_message(message)) {
                case LineReader::Result::end:
                    if (lines_.on_terminal()) output_.write("\n");
                    return 0;
                case LineReader::Result::interrupted:
                    if (lines_.on_terminal()) output_.write("\n");
                    // At a prompt the second in a row ends the program; a pipe has no one to ask.
                    if (interrupted || !lines_.on_terminal()) return Interrupt::exit_status();
                    if (!Interrupt::take_interrupt()) return Interrupt::exit_status();
                    note("Ctrl-C again ends\n");
                    interrupted = true;
                    continue;
                case LineReader::Result::line:
                    break;
            }
            interrupted = false;
            if (message.empty()) continue;
            if (message == "/exit") return 0;
            if (message.starts_with('/') && !message.starts_with("//")) {
                obey(message);
                continue;
            }
            respond(message.starts_with('/') ? message.substr(1) : message);
            if (Interrupt::received() && (!lines_.on_terminal() || !Interrupt::take_interrupt())) {
                return Interrupt::exit_status();
            }
        }
    }

private:
    static void note(const std::string& text) { std::fputs(text.c_str(), stderr); }

    // A line, and those that it says follow.
    LineReader::Result read_message(std::string& message) {
        const char* prompt = "> ";
        while (true) {
            std::string line;
            const LineReader::Result result = lines_.read(prompt, line);
            if (result == LineReader::Result::end && !message.empty()) return LineReader::Result::line;
            if (result != LineReader::Result::line) return result;
            message += line;
            if (!message.ends_with('\\')) return result;
            message.back() = '\n';
            prompt = "  ";
        }
    }

    void respond(const std::string& message) {
        StatusLine status(false);
        VisibleText text;
        bool began = false;
        const auto show = [&](const std::string& shown) {
            // Some families' replies begin with a space.
            const std::size_t begin = began ? 0 : std::min(shown.find_first_not_of(" \n"), shown.size());
            began = began || begin < shown.size();
            output_.write(std::string_view(shown).substr(begin));
        };
        Conversation::Watcher watcher;
        watcher.show = [&](std::string_view bytes) {
            status.clear();
            show(text.add(bytes));
        };
        watcher.reading = [&](Index left) {
            if (left > 0 && status.due()) status.show(format("%lld tokens to read", static_cast<long long>(left)));
        };
        watcher.stopped = [] { return Interrupt::received(); };
        try {
            last_ = conversation_.respond(message, options_.tokens, watcher);
        } catch (const std::invalid_argument& error) {
            note(std::string(error.what()) + "\n");
            return;
        }
        status.clear();
        show(text.finish());
        output_.write("\n");
        if (options_.verbose) note(describe_rates(last_) + "\n");
    }

    void obey(const std::string& command) {
        constexpr std::string_view system = "/system ";
        if (command == "/help") {
            note(help);
        } else if (command == "/clear") {
            conversation_.clear();
            last_ = {};
        } else if (command.starts_with(system) || command == "/system") {
            conversation_.restart(command.substr(std::min(system.size(), command.size())));
            last_ = {};
        } else if (command == "/cache") {
            describe_cache();
        } else {
            note(command.substr(0, command.find(' ')) + " is no command; /help lists them\n");
        }
    }

    // Layers that hold the same are one line.
    void describe_cache() const {
        note(format("%s, %s of keys and values; %lld tokens of conversation\n", policy_,
                    format_bytes(model_.cache_bytes()).c_str(), static_cast<long long>(conversation_.tokens())));
        const Index layers = model_.config().layers;
        for (Index first = 0; first < layers;) {
            const std::string held = describe_layer(first);
            Index last = first;
            while (last + 1 < layers && held == describe_layer(last + 1)) ++last;
            note(format("layers %lld to %lld: ", static_cast<long long>(first), static_cast<long long>(last)) + held +
                 "\n");
            first = last + 1;
        }
        if (last_.read > 0) note("latest: " + describe_rates(last_) + "\n");
    }

    // Once what all heads have, or what each has.
    std::string describe_layer(Index layer) const {
        const Index heads = model_.config().kv_heads;
        const auto list = [&](Index (CacheCounts::*count)() const) {
            const Index one = (model_.head_cache(layer, 0).*count)();
            std::string text = std::to_string(one);
            bool alike = true;
            for (Index h = 1; h < heads; ++h) {
                const Index value = (model_.head_cache(layer, h).*count)();
                alike = alike && value == one;
                text += "+" + std::to_string(value);
            }
            return alike ? std::to_string(one) : text;
        };
        return list(&CacheCounts::size) + " of " + list(&CacheCounts::capacity) + " entries, " +
               list(&CacheCounts::compressions) + " compressions";
    }

    const ChatOptions& options_;
    LanguageModel& model_;
    const char* policy_;
    Conversation conversation_;
    LineReader lines_;
    TextOutput output_;
    Reply last_;
};

// A conversation goes on for as long as anyone likes, so the cache is one that a machine has room for. What is said to
// the model first stays in it as it is, and so do three quarters of the rest: models that were not trained with
// compressions read best what has few of them.
ModelOptions with_defaults(const ModelOptions& given, const Checkpoint& checkpoint, Index head) {
    const Config& config = checkpoint.config;
    ModelOptions options = given;
    if (traits_of(options.policy).grows || !options.budgets.empty()) return options;
    constexpr Index most = 8192;
    const Index window = trained_window(config);
    if (options.budget) {
        const CacheType type = resolve(given, checkpoint, window).type;
        options.capacity = uniform_capacity(config, {config, options.policy, options.weighted}, type,
                                            options.sinks.value_or(4), *options.budget);
    }
    if (!options.capacity) options.capacity = std::min(window, most);
    const Index capacity = *options.capacity;
    if (!options.sinks) options.sinks = std::max(Index{4}, std::min(head, capacity / 4));
    const Index rest = std::max(Index{0}, capacity - *options.sinks);
    const PolicyTraits traits = traits_of(options.policy);
    if (!options.recent && traits.dct && !traits.chooses) options.recent = rest / 4 * 3;
    return options;
}

}  // namespace

int chat(const ChatOptions& options) {
    check_options(options);
    check_device(options);
    const Checkpoint checkpoint = open_model(options);
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.tokenizer, checkpoint);
    ChatTemplate chat_template = open_chat_template(options.chat_template, checkpoint.path);
    if (options.system) chat_template.set_system(*options.system);
    const ModelOptions completed = with_defaults(options, checkpoint, head_of_conversation(*tokenizer, chat_template));
    const CacheSettings settings = resolve(completed, checkpoint, checkpoint.config.context);
    const std::unique_ptr<LanguageModel> model = open_language_model(checkpoint, settings, completed);
    Interrupt::install_to_stay();
    return Chat(options, *model, *tokenizer, chat_template, settings).run();
}

}  // namespace llama
