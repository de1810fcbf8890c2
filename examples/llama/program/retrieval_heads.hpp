// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "llama/model/checkpoint.hpp"

namespace llama {

/// How the text is read to find the heads that retrieve.
struct RetrievalProbe {
    Index piece = 0;    ///< tokens that are read; a text is cut into pieces of so many
    Index passage = 0;  ///< tokens among them that come again behind them: those from `passage` on

    /// For a model: 1024 tokens and an eighth of that, or less where the trained window is shorter.
    explicit RetrievalProbe(const Config& config);
};

/// How much each head looks back at what a token was followed by: pieces of a text are read, a passage of each comes
/// again at its end, and the attention is averaged that its tokens give to themselves in the passage's first place and
/// to the token behind; 0 to 1. Heads that copy from far away have much of it, all others next to none ("echo" and
/// "induction" heads, RazorAttention, arXiv 2407.15891). The caches hold everything; the text should be `piece` tokens
/// or more. [layers that see the whole text, kv_heads]; empty if it was interrupted.
std::vector<double> measure_retrieval(const Checkpoint& checkpoint, std::span<const Token> tokens, Index chunk,
                                      int threads);

}  // namespace llama
