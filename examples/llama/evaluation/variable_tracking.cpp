// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "llama/evaluation/draws.hpp"
#include "llama/evaluation/task_samples.hpp"

namespace llama {

namespace {

constexpr Index chain_length = 5;  // a value and four hops

// Variables that get a value one from the other, and where in the noise.
struct VariableChain {
    std::string value;
    std::vector<std::string> variables;  // in the order of the assignments
    std::vector<double> depths;          // ascending, in [0, 1)

    VariableChain(int letters, Random& random) : value(std::to_string(10'000 + draw_below(random, 90'000))) {
        while (variables.size() < chain_length) {
            std::string name;
            for (int i = 0; i < letters; ++i) name += static_cast<char>('A' + draw_below(random, 26));
            if (std::find(variables.begin(), variables.end(), name) == variables.end()) variables.push_back(name);
        }
        for (Index i = 0; i < chain_length; ++i) depths.push_back(random.uniform());
        std::sort(depths.begin(), depths.end());
    }

    // Each assignment stands before another line of noise.
    std::string context(Index units) const {
        std::string text =
            "In the text below variables get values, and some get the value of another variable. Keep track of who has "
            "which.\n\n";
        std::size_t next = 0;
        for (Index i = 0; i < units; ++i) {
            if (next < variables.size() && i == place(next, units)) {
                text.append("VAR ").append(variables[next]).append(" = ");
                text.append(next == 0 ? value : "VAR " + variables[next - 1]).append("\n");
                ++next;
            }
            text.append(noise_sentences).append("\n");
        }
        return text;
    }

    Index place(std::size_t assignment, Index units) const {
        const auto places = static_cast<double>(units - chain_length + 1);
        return static_cast<Index>(depths[assignment] * places) + static_cast<Index>(assignment);
    }

    Question question() const {
        return {.text = "Question: Which variables in the text above have the value " + value + "? Name all of them.",
                .answer_prefix = " Answer: By the assignments in the text above, " + std::to_string(chain_length) +
                                 " variables have the value " + value + ":",
                .answers = variables,
                .most_tokens = 30};
    }
};

}  // namespace

// RULER's example has up to 500 tokens whatever the size, and shorter names.
GrowingSample vt_sample(const SampleSize& size, Random& random) {
    const VariableChain chain(5, random);
    VariableChain example_chain(3, random);
    while (example_chain.value == chain.value) example_chain = VariableChain(3, random);
    const Question example_question = example_chain.question();
    std::string solution = example_question.text + example_question.answer_prefix;
    for (const std::string& variable : example_chain.variables) solution.append(" ").append(variable);
    const GrowingSample example{
        .context = [=](Index units) { return example_chain.context(units) + solution + "\n\n"; },
        .least_units = chain_length,
        .most_units = more_units_than(500),
        .question = {}};
    const std::string shown = example.context(fit_context(example, 500, size.count).units);
    return {.context = [=](Index units) { return shown + chain.context(units); },
            .least_units = chain_length,
            .most_units = more_units_than(size.tokens),
            .question = chain.question()};
}

}  // namespace llama
