// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llama/model/config.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// A token that stands for a text as a whole, beside what merges lead to.
struct AddedToken {
    std::string text;
    Token id = -1;
    bool special = false;      ///< a control token: part of no decoded text, and never read out of verbatim text
    bool normalized = false;   ///< looked for after the normalisation of the text, not before it
    bool lstrip = false;       ///< takes the white space before it, too
    bool rstrip = false;       ///< takes the white space behind it, too
    bool single_word = false;  ///< counts only where no letter, digit or underscore is beside it
};

/// Finds added tokens in texts, by an automaton of all of them (Aho and Corasick's).
class AddedTokenFinder {
public:
    struct Match {
        std::size_t begin, end;
        Token id;
    };

    /// Texts must not be empty; of equal ones the lowest id counts. Takes some 40 bytes for each byte of the texts.
    explicit AddedTokenFinder(std::vector<AddedToken> tokens);

    /// The matches from left to right; of those that begin first the longest. Special tokens that reach into a range
    /// of `verbatim` are none. O(text).
    std::vector<Match> find_all(std::string_view text, std::span<const TextRange> verbatim = {}) const;

private:
    // A node stands for the end of a token's text, read backwards. Nodes are numbered by their depth, so the children
    // of each are neighbours: those of n are first_child to first_child of n + 1.
    struct Node {
        std::uint32_t first_child = 0;
        std::uint32_t fallback = 0;  // the longest of its beginnings that is another node: fewer bytes of text
        std::uint32_t longest = 0;   // the longest token that ends a way to here, as its node; 0: none
        std::uint32_t longest_not_special = 0;
        std::int32_t token = -1;  // into tokens_
        char byte = 0;            // on the way to it
    };

    void add_nodes();
    void add_fallbacks();
    std::uint32_t child(std::uint32_t node, char byte) const;
    std::uint32_t next(std::uint32_t node, char byte) const;
    const AddedToken& token_of(std::uint32_t node) const {
        return tokens_[static_cast<std::size_t>(nodes_[node].token)];
    }

    std::vector<AddedToken> tokens_;  // in the order of their bytes, read backwards
    std::vector<Node> nodes_;         // the root is 0; one more than there are
};

/// Cuts a text at its added tokens: calls found(id) for each and between(range) for what lies between, from left to
/// right.
template <class Found, class Between>
void cut_at(const AddedTokenFinder& finder, std::string_view text, std::span<const TextRange> verbatim, Found&& found,
            Between&& between) {
    std::size_t at = 0;
    for (const AddedTokenFinder::Match& match : finder.find_all(text, verbatim)) {
        if (match.begin > at) between(TextRange{at, match.begin});
        found(match.id);
        at = match.end;
    }
    if (at < text.size()) between(TextRange{at, text.size()});
}

}  // namespace llama
