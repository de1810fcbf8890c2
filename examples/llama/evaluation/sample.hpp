// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "llama/model/config.hpp"

namespace llama {

/// What is asked about a context.
struct Question {
    std::string text;                  ///< follows the context
    std::string answer_prefix;         ///< how the reply begins; the model goes on from there
    std::vector<std::string> answers;  ///< the scorer says whether one or all of them have to be there
    Index most_tokens = 128;           ///< of the reply
};

/// A text that a model reads once, and the questions that are asked about it, each as if it were the only one.
struct Sample {
    std::string context;
    std::vector<Question> questions;
    std::vector<std::string> classes;  ///< of a classification, all there are
    double depth = -1;  ///< of what is asked for: 0 at the beginning of the context, 1 at its end; -1: not one place
};

}  // namespace llama
