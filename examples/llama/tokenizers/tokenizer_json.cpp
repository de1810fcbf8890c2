// SPDX-License-Identifier: MIT
#include "llama/tokenizers/tokenizer_json.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/in_quotes.hpp"
#include "llama/io/json_file.hpp"
#include "llama/tokenizers/byte_level_bpe.hpp"
#include "llama/tokenizers/pre_token_patterns.hpp"

namespace llama {

namespace {

using nlohmann::json;

class TokenizerJsonReader {
public:
    explicit TokenizerJsonReader(const std::string& path) : path_(path) {
        // Room that is not used takes no memory; growing takes twice what is there.
        parts_.merges.reserve(ByteLevelBpeParts::most_merges);
        const auto take = [this](const std::string&, const json& merge) {
            read_merge(merge);
            return true;
        };
        const JsonMembers merges[] = {{"/model/merges", JsonMembers::Of::array, take}};
        constexpr std::size_t most_bytes = std::size_t{64} << 20;
        root_ = read_json(path, most_bytes, merges);
    }

    ByteLevelBpeParts read() && {
        read_model(member(root_, "model"));
        read_added_tokens(member(root_, "added_tokens"));
        read_normalizer(member(root_, "normalizer"));
        read_pre_tokenizer(member(root_, "pre_tokenizer"));
        read_post_processor(member(root_, "post_processor"));
        read_end_of_text();
        return std::move(parts_);
    }

private:
    // The model and what it is made of.

    void read_model(const json& model) {
        if (!model.is_object()) fail("has no model: it is no tokenizer of the tokenizers library");
        const json& type = member(model, "type");
        if (!type.is_null() && type != "BPE") refuse("a model of the type " + shown(type));
        if (flag(model, "byte_fallback")) refuse("a BPE with byte_fallback");
        for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
            const json& affix = member(model, key);
            const bool none = affix.is_null() || (affix.is_string() && affix.get_ref<const std::string&>().empty());
            if (!none) refuse(std::string("a BPE with ") + key + " " + shown(affix));
        }
        if (const json& dropout = member(model, "dropout"); !dropout.is_null() && dropout != 0.0) {
            refuse("a BPE with dropout " + shown(dropout));
        }
        parts_.ignore_merges = flag(model, "ignore_merges");
        read_vocabulary(member(model, "vocab"));
        if (!member(model, "merges").is_array()) fail("model.merges is no list");
    }

    void read_vocabulary(const json& vocabulary) {
        if (!vocabulary.is_object() || vocabulary.empty()) fail("model.vocab is no object with tokens");
        // Some files leave ids out; yet memory stays in proportion to the file.
        const json& added = member(root_, "added_tokens");
        id_limit_ =
            std::min(4 * (vocabulary.size() + (added.is_array() ? added.size() : 0)), ByteLevelBpeParts::most_tokens);
        for (const auto& [token, value] : vocabulary.items()) {
            const std::size_t id = read_id(value, "token " + in_quotes(token));
            if (id >= parts_.tokens.size()) parts_.tokens.resize(id + 1);
            std::string& text = parts_.tokens[id];
            if (!text.empty()) {
                fail("tokens " + in_quotes(text) + " and " + in_quotes(token) + " have the same id " +
                     std::to_string(id));
            }
            text = token;
        }
    }

    // "a b" or ["a", "b"]
    void read_merge(const json& merge) {
        if (parts_.merges.size() == ByteLevelBpeParts::most_merges) {
            fail("more than " + std::to_string(ByteLevelBpeParts::most_merges) + " merges");
        }
        if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            parts_.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
            return;
        }
        const std::string both = merge.is_string() ? merge.get<std::string>() : std::string();
        const std::size_t space = both.find(' ');
        if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
            fail("merge " + std::to_string(parts_.merges.size()) + " is " + shown(merge) + ", must be two tokens");
        }
        parts_.merges.emplace_back(both.substr(0, space), both.substr(space + 1));
    }

    void read_added_tokens(const json& tokens) {
        if (tokens.is_null()) return;
        if (!tokens.is_array()) fail("added_tokens is no list");
        for (const json& token : tokens) {
            const std::string text = text_of(member(token, "content"), "the content of an added token");
            const std::string name = "added token " + in_quotes(text);
            for (const char* key : {"single_word", "lstrip", "rstrip"}) {
                if (flag(token, key)) refuse(name + " with " + key);
            }
            const std::size_t id = read_id(member(token, "id"), name);
            parts_.added.push_back({text, static_cast<Token>(id), flag(token, "special"), flag(token, "normalized")});
        }
    }

    // What happens to a text before it is merged.

    void read_normalizer(const json& normalizer) {
        for (const json* step : steps(normalizer, "normalizers")) {
            if (member(*step, "type") != "NFC") refuse("a normalizer of the type " + shown(member(*step, "type")));
            parts_.nfc = true;
        }
    }

    void read_pre_tokenizer(const json& pre_tokenizer) {
        const std::vector<const json*> all = steps(pre_tokenizer, "pretokenizers");
        if (all.empty() || member(*all.back(), "type") != "ByteLevel") {
            refuse("a pre_tokenizer that does not end with ByteLevel");
        }
        for (const json* step : all) {
            const json& type = member(*step, "type");
            if (type == "Split") {
                read_split(*step);
            } else if (type == "Digits") {
                parts_.patterns.emplace_back(flag(*step, "individual_digits") ? pre_token_patterns::digit
                                                                              : pre_token_patterns::digits);
            } else if (type == "ByteLevel" && step == all.back()) {
                if (flag(*step, "use_regex", true)) parts_.patterns.emplace_back(pre_token_patterns::gpt2);
                parts_.add_prefix_space = flag(*step, "add_prefix_space");
            } else {
                refuse("a pre_tokenizer with a step of the type " + shown(type));
            }
        }
        if (parts_.add_prefix_space && all.size() > 1) refuse("add_prefix_space after other steps");
    }

    void read_split(const json& split) {
        const json& regex = member(member(split, "pattern"), "Regex");
        if (!regex.is_string()) refuse("a Split whose pattern is no Regex");
        if (member(split, "behavior") != "Isolated") refuse("a Split of behavior " + shown(member(split, "behavior")));
        if (flag(split, "invert")) refuse("an inverted Split");
        parts_.patterns.push_back(regex.get<std::string>());
    }

    // Control tokens.

    void read_post_processor(const json& post_processor) {
        for (const json* step : steps(post_processor, "processors")) {
            const json& type = member(*step, "type");
            if (type == "ByteLevel") continue;
            if (type != "TemplateProcessing") refuse("a post_processor of the type " + shown(type));
            const json& single = member(*step, "single");
            if (!single.is_array() || single.empty()) fail("post_processor.single is no list with an entry");
            const json& first = member(single[0], "SpecialToken");
            if (first.is_null()) continue;
            const std::string name = text_of(member(first, "id"), "the first token of post_processor.single");
            const json& ids = member(member(member(*step, "special_tokens"), name.c_str()), "ids");
            if (!ids.is_array() || ids.size() != 1) {
                fail("post_processor.special_tokens has not one id for " + in_quotes(name));
            }
            parts_.begin_of_text = static_cast<Token>(read_id(ids[0], "special token " + in_quotes(name)));
        }
    }

    void read_end_of_text() {
        const std::string config = std::filesystem::path(path_).replace_filename("tokenizer_config.json").string();
        if (std::error_code error; !std::filesystem::exists(config, error)) return;
        const json tokens = read_json(config);
        const json& end = member(tokens, "eos_token");
        if (end.is_null()) return;
        const json& content = end.is_object() ? member(end, "content") : end;
        if (!content.is_string()) throw FileError(config, "eos_token is " + shown(end) + ", must be a text");
        const auto text = content.get<std::string>();
        for (const AddedToken& token : parts_.added) {
            if (token.text == text) return parts_.end_of_text.assign(1, token.id);
        }
        for (std::size_t i = 0; i < parts_.tokens.size(); ++i) {
            if (parts_.tokens[i] == text) return parts_.end_of_text.assign(1, static_cast<Token>(i));
        }
        throw FileError(config, "eos_token is " + in_quotes(text) + ", which " + path_ + " does not have");
    }

    // JSON.

    // Null where there is none.
    static const json& member(const json& object, const char* key) {
        static const json none;
        const auto found = object.is_object() ? object.find(key) : object.end();
        return found == object.end() ? none : *found;
    }

    bool flag(const json& object, const char* key, bool otherwise = false) const {
        const json& value = member(object, key);
        if (value.is_null()) return otherwise;
        if (!value.is_boolean()) fail(std::string(key) + " is " + shown(value) + ", must be true or false");
        return value.get<bool>();
    }

    std::string text_of(const json& value, const std::string& name) const {
        if (!value.is_string()) fail(name + " is " + shown(value) + ", must be a text");
        return value.get<std::string>();
    }

    std::size_t read_id(const json& value, const std::string& name) const {
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= id_limit_) {
            fail(name + " has the id " + shown(value) + ", must be at least 0 and below " + std::to_string(id_limit_) +
                 " in a file with as many tokens");
        }
        return value.get<std::size_t>();
    }

    // A Sequence's steps, which it has under `key`, or the one step that it is.
    std::vector<const json*> steps(const json& sequence, const char* key) const {
        if (sequence.is_null()) return {};
        if (member(sequence, "type") != "Sequence") return {&sequence};
        const json& list = member(sequence, key);
        if (!list.is_array()) fail(std::string("a Sequence has no list of ") + key);
        std::vector<const json*> all;
        for (const json& step : list) all.push_back(&step);
        return all;
    }

    static std::string shown(const json& value) {
        if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
        if (value.is_structured()) return value.is_array() ? "a list" : "an object";
        return value.dump();
    }

    [[noreturn]] void fail(const std::string& reason) const { throw FileError(path_, reason); }

    [[noreturn]] void refuse(const std::string& what) const {
        fail(what +
             " is not supported: only byte-level BPE is; a SentencePiece tokenizer.model beside it would be read");
    }

    const std::string& path_;
    json root_;  // without the merges
    std::size_t id_limit_ = 0;
    ByteLevelBpeParts parts_;
};

}  // namespace

std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path) {
    ByteLevelBpeParts parts = TokenizerJsonReader(path).read();
    return std::make_unique<ByteLevelBpe>(std::move(parts), path);
}

}  // namespace llama
