// SPDX-License-Identifier: MIT
#include <string>

#include <nlohmann/json.hpp>

#include "llama/io/format.hpp"
#include "llama/model/cache_settings.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

const char* where(PolicyUse use) {
    switch (use) {
        case PolicyUse::anywhere:
            return "processor, GPU, training";
        case PolicyUse::host:
            return "processor";
        case PolicyUse::training:
            break;
    }
    return "training";
}

}  // namespace

int policies(const PoliciesOptions& options) {
    const JsonOutput json(options.json);
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    std::string text;
    for (const PolicyName policy : all_of<PolicyName>) {
        const PolicyTraits traits = traits_of(policy);
        text += format("%-18s %s\n%-18s from %s; cost: %s; on %s\n", traits.name, traits.what, "", traits.source,
                       traits.cost, where(traits.use));
        nlohmann::ordered_json parameters = nlohmann::ordered_json::object();
        for (const PolicyParameter& parameter : traits.parameters) {
            if (parameter.name == nullptr) continue;
            text += format("%-18s %s=%g: %s; %g to %g\n", "", parameter.name, parameter.standard, parameter.what,
                           parameter.least, parameter.most);
            parameters[parameter.name] = {{"what", parameter.what},
                                          {"standard", parameter.standard},
                                          {"least", parameter.least},
                                          {"most", parameter.most}};
        }
        list.push_back({{"name", traits.name},
                        {"what", traits.what},
                        {"source", traits.source},
                        {"cost", traits.cost},
                        {"where", where(traits.use)},
                        {"parameters", parameters},
                        {"grows", traits.grows}});
    }
    json.write(nlohmann::ordered_json{{"policies", list}});
    if (!json.takes_stdout()) TextOutput().write(text);
    return 0;
}

}  // namespace llama
