// SPDX-License-Identifier: MIT
#include <string>

#include <nlohmann/json.hpp>

#include "llama/formats/open_checkpoint.hpp"
#include "llama/io/format.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/program/flop_model.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

int flops(const FlopsOptions& options) {
    const Config config = read_config(options.model);
    const Index tokens = options.context > 0 ? options.context : config.context;
    const CacheSettings settings = resolve(options, config, tokens);
    if (!traits_of(settings.policy).whole_span) {
        throw UsageError(std::string("--policy ") + to_string(settings.policy) +
                         ": what is counted are compressions of everything between sinks and recent part");
    }
    const JsonOutput json(options.json);
    const FlopCount count = count_flops(config, settings, tokens);
    const Index bytes = settings.grows() ? cache_bytes(config, tokens, settings.type)
                                         : cache_bytes(config, settings.sizes, settings.type);

    nlohmann::ordered_json object{{"tflops", count.total() * 1e-12},
                                  {"compressions", count.compressions},
                                  {"cache_bytes", bytes},
                                  {"model", options.model},
                                  {"context", tokens}};
    object.update(to_json(settings));
    std::string table = format("TFLOP of one forward pass over %lld tokens\n", static_cast<long long>(tokens));
    const auto add = [&](const char* name, const char* key, double flops) {
        table += format("  %-24s%12.5g  %6.2f %%\n", name, flops * 1e-12, 100 * flops / count.total());
        object["parts"][key] = flops * 1e-12;
    };
    add("projections q, k, v, o", "projections", count.projections);
    add("feed-forward", "feed_forward", count.feed_forward);
    add("output projection", "classifier", count.classifier);
    add("attention", "attention", count.attention);
    add("norms, rotation, gates", "elementwise", count.elementwise);
    add("compression", "compression", count.compression);
    table += format("  %-24s%12.5g\n", "total", count.total() * 1e-12);
    table += format("%lld compressions in each layer; cache %s, %s, %s\n", static_cast<long long>(count.compressions),
                    format_bytes(bytes).c_str(), to_string(settings.policy), to_string(settings.type));
    json.write(object);
    if (!json.takes_stdout()) TextOutput().write(table);
    return 0;
}

}  // namespace llama
