// SPDX-License-Identifier: MIT
#include "llama/tokenizers/tokenizer_json_steps.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/tokenizers/pre_token_patterns.hpp"
#include "llama/tokenizers/spaces.hpp"

namespace llama {

namespace {

using nlohmann::json;

const json& member(const json& object, const char* key) { return TokenizerJsonReader::member(object, key); }

}  // namespace

void TokenizerJsonSteps::read_normalizer(const json& normalizer, BpeParts& parts) const {
    for (const json* step : reader_.steps(normalizer, "normalizers")) {
        const json& type = member(*step, "type");
        if (type == "NFC") {
            parts.edits.push_back({TextEdit::Kind::nfc});
        } else if (type == "Prepend") {
            parts.edits.push_back({TextEdit::Kind::prepend, {}, reader_.text(member(*step, "prepend"), "prepend")});
        } else if (type == "Replace") {
            const json& from = member(member(*step, "pattern"), "String");
            if (!from.is_string() || from.get_ref<const std::string&>().empty())
                reader_.refuse("a Replace whose pattern is no text");
            parts.edits.push_back(
                {TextEdit::Kind::replace, from.get<std::string>(), reader_.text(member(*step, "content"), "content")});
        } else {
            reader_.refuse("a normalizer of the type " + reader_.shown(type));
        }
    }
    // A text grows by one byte to many, each time.
    constexpr std::size_t most = 8;
    const auto grows = [](const TextEdit& edit) { return edit.to.size() > 8 || edit.from.size() > 64; };
    if (parts.edits.size() > most || std::any_of(parts.edits.begin(), parts.edits.end(), grows)) {
        reader_.refuse("a normalizer of more than 8 steps or with long texts");
    }
}

void TokenizerJsonSteps::read_pre_tokenizer(const json& pre_tokenizer, BpeParts& parts) const {
    const std::vector<const json*> all = reader_.steps(pre_tokenizer, "pretokenizers");
    parts.byte_level =
        std::any_of(all.begin(), all.end(), [](const json* s) { return member(*s, "type") == "ByteLevel"; });
    if (parts.byte_level && member(*all.back(), "type") != "ByteLevel") {
        reader_.refuse("a pre_tokenizer with steps behind ByteLevel");
    }
    for (const json* step : all) {
        const json& type = member(*step, "type");
        if (type == "Split") {
            read_split(*step, parts);
        } else if (type == "Digits") {
            parts.splits.push_back(
                {reader_.flag(*step, "individual_digits") ? pre_token_patterns::digit : pre_token_patterns::digits});
        } else if (type == "ByteLevel" && step == all.back()) {
            read_byte_level(*step, all.size() == 1, parts);
        } else if (type == "Metaspace" && step == all.front() && !parts.byte_level) {
            read_metaspace(*step, parts);
        } else {
            reader_.refuse("a pre_tokenizer with a step of the type " + reader_.shown(type));
        }
    }
}

void TokenizerJsonSteps::read_byte_level(const json& step, bool alone, BpeParts& parts) const {
    if (reader_.flag(step, "use_regex", true)) parts.splits.push_back({pre_token_patterns::gpt2});
    if (!reader_.flag(step, "add_prefix_space")) return;
    if (!alone) reader_.refuse("add_prefix_space after other steps");
    parts.prefix_space = PrefixSpace::always;
}

void TokenizerJsonSteps::read_metaspace(const json& step, BpeParts& parts) const {
    const json& mark = member(step, "replacement");
    if (mark != std::string(space_mark)) reader_.refuse("a Metaspace with the replacement " + reader_.shown(mark));
    parts.mark_spaces = true;
    parts.prefix_space = prefix_of(step);
    if (reader_.flag(step, "split", true)) {
        parts.splits.push_back({std::string(space_mark), true, SplitBehavior::merged_with_next});
    }
}

PrefixSpace TokenizerJsonSteps::prefix_of(const json& metaspace) const {
    const json& scheme = member(metaspace, "prepend_scheme");
    if (scheme.is_null()) {  // older files
        return reader_.flag(metaspace, "add_prefix_space", true) ? PrefixSpace::always : PrefixSpace::never;
    }
    if (scheme == "always") return PrefixSpace::always;
    if (scheme == "first") return PrefixSpace::first;
    if (scheme == "never") return PrefixSpace::never;
    reader_.refuse("a Metaspace with the prepend_scheme " + reader_.shown(scheme));
}

void TokenizerJsonSteps::read_split(const json& step, BpeParts& parts) const {
    static const std::array<std::pair<const char*, SplitBehavior>, 5> behaviors{{
        {"Isolated", SplitBehavior::isolated},
        {"Removed", SplitBehavior::removed},
        {"Contiguous", SplitBehavior::contiguous},
        {"MergedWithPrevious", SplitBehavior::merged_with_previous},
        {"MergedWithNext", SplitBehavior::merged_with_next},
    }};
    const json& pattern = member(step, "pattern");
    const bool literal = member(pattern, "String").is_string();
    const json& text = member(pattern, literal ? "String" : "Regex");
    if (!text.is_string()) reader_.refuse("a Split whose pattern is neither a Regex nor a String");
    const json& behavior = member(step, "behavior");
    const auto* const found =
        std::find_if(behaviors.begin(), behaviors.end(), [&](const auto& known) { return behavior == known.first; });
    if (found == behaviors.end()) reader_.refuse("a Split of behavior " + reader_.shown(behavior));
    parts.splits.push_back({text.get<std::string>(), literal, found->second, reader_.flag(step, "invert")});
}

// What it does to spaces and bytes follows from the vocabulary.
void TokenizerJsonSteps::read_decoder(const json& decoder, BpeParts& parts) const {
    if (parts.byte_level) return;
    for (const json* step : reader_.steps(decoder, "decoders")) {
        const json& type = member(*step, "type");
        if (type == "Strip") {
            const json& start = member(*step, "start");
            parts.drops_leading_space = start.is_number_unsigned() && start != 0;
        } else if (type == "Metaspace") {
            parts.drops_leading_space = prefix_of(*step) != PrefixSpace::never;
        } else if (type != "Replace" && type != "ByteFallback" && type != "Fuse") {
            reader_.refuse("a decoder with a step of the type " + reader_.shown(type));
        }
    }
}

}  // namespace llama
