// SPDX-License-Identifier: MIT
#include "llama/tokenizers/added_tokens.hpp"

#include <algorithm>
#include <utility>

#include "llama/tokenizers/characters.hpp"

namespace llama {

namespace {

bool backwards_less(const AddedToken& left, const AddedToken& right) {
    if (left.text == right.text) return left.id < right.id;
    const auto unsigned_less = [](char a, char b) {
        return static_cast<unsigned char>(a) < static_cast<unsigned char>(b);
    };
    return std::lexicographical_compare(left.text.rbegin(), left.text.rend(), right.text.rbegin(), right.text.rend(),
                                        unsigned_less);
}

// Whether a letter is beside the token.
bool within_word(const AddedTokenFinder::Match& match, std::string_view text) {
    return ends_with_word(text.substr(0, match.begin)) || begins_with_word(text.substr(match.end));
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    std::sort(tokens_.begin(), tokens_.end(), backwards_less);
    const auto same_text = [](const AddedToken& left, const AddedToken& right) { return left.text == right.text; };
    tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same_text), tokens_.end());
    add_nodes();
    add_fallbacks();
}

void AddedTokenFinder::add_nodes() {
    struct Part {  // the tokens of a node
        std::size_t first, last;
    };
    std::vector<Part> parts{{0, tokens_.size()}};
    nodes_.emplace_back();
    std::size_t depth = 0;
    for (std::size_t node = 0, level_end = 1; node < nodes_.size(); ++node) {
        if (node == level_end) {
            ++depth;
            level_end = nodes_.size();
        }
        nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
        auto [first, last] = parts[node];
        if (first < last && tokens_[first].text.size() == depth) {  // the shortest comes first
            nodes_[node].token = static_cast<std::int32_t>(first++);
        }
        const auto byte_of = [&](std::size_t i) { return tokens_[i].text[tokens_[i].text.size() - 1 - depth]; };
        while (first < last) {
            const std::size_t begin = first;
            while (first < last && byte_of(first) == byte_of(begin)) ++first;
            nodes_.emplace_back();
            nodes_.back().byte = byte_of(begin);
            parts.push_back({begin, first});
        }
    }
    nodes_.emplace_back();
    nodes_.back().first_child = static_cast<std::uint32_t>(nodes_.size()) - 1;
}

void AddedTokenFinder::add_fallbacks() {
    for (std::uint32_t node = 0; node + 1 < nodes_.size(); ++node) {
        Node& n = nodes_[node];
        const Node& fallback = nodes_[n.fallback];
        n.longest = n.token >= 0 ? node : fallback.longest;
        n.longest_not_special = n.token >= 0 && !token_of(node).special ? node : fallback.longest_not_special;
        for (std::uint32_t child = n.first_child; child < nodes_[node + 1].first_child; ++child) {
            nodes_[child].fallback = node == 0 ? 0 : next(n.fallback, nodes_[child].byte);
        }
    }
}

std::uint32_t AddedTokenFinder::child(std::uint32_t node, char byte) const {
    const auto begin = nodes_.begin() + nodes_[node].first_child;
    const auto end = nodes_.begin() + nodes_[node + 1].first_child;
    const auto unsigned_less = [](const Node& n, char b) {
        return static_cast<unsigned char>(n.byte) < static_cast<unsigned char>(b);
    };
    const auto found = std::lower_bound(begin, end, byte, unsigned_less);
    return found != end && found->byte == byte ? static_cast<std::uint32_t>(found - nodes_.begin()) : 0;
}

std::uint32_t AddedTokenFinder::next(std::uint32_t node, char byte) const {
    while (true) {
        const std::uint32_t found = child(node, byte);
        if (found != 0 || node == 0) return found;
        node = nodes_[node].fallback;
    }
}

std::vector<AddedTokenFinder::Match> AddedTokenFinder::find_all(std::string_view text,
                                                                std::span<const TextRange> verbatim) const {
    struct Begin {
        std::size_t at;
        std::uint32_t node;
    };
    std::vector<Begin> begins;  // where a token begins, and the longest one there; from the end of the text on
    std::uint32_t node = 0;
    std::size_t range = verbatim.size();  // those from it on begin behind `at`
    for (std::size_t at = text.size(); at-- > 0;) {
        node = next(node, text[at]);
        std::uint32_t longest = nodes_[node].longest;
        if (longest == 0) continue;
        while (range > 0 && verbatim[range - 1].begin > at) --range;
        if (range > 0 && at < verbatim[range - 1].end) {
            longest = nodes_[node].longest_not_special;
        } else if (range < verbatim.size()) {
            const auto forged = [&](const AddedToken& token) {
                return token.special && at + token.text.size() > verbatim[range].begin;
            };
            while (longest != 0 && forged(token_of(longest))) longest = nodes_[nodes_[longest].fallback].longest;
        }
        if (longest != 0) begins.push_back({at, longest});
    }

    std::vector<Match> matches;
    std::size_t searched = 0;  // matches do not overlap
    std::size_t taken = 0;
    for (auto begin = begins.rbegin(); begin != begins.rend(); ++begin) {
        if (begin->at < searched) continue;
        const AddedToken& token = token_of(begin->node);
        Match match{begin->at, begin->at + token.text.size(), token.id};
        searched = match.end;
        if (token.single_word && within_word(match, text)) continue;
        if (token.lstrip) match.begin = std::max(trailing_space(text.substr(0, match.begin)), taken);
        if (token.rstrip) match.end += leading_space(text.substr(match.end));
        matches.push_back(match);
        taken = match.end;
    }
    return matches;
}

}  // namespace llama
