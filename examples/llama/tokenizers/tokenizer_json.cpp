// SPDX-License-Identifier: MIT
#include "llama/tokenizers/tokenizer_json.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/json_file.hpp"
#include "llama/tokenizers/bpe.hpp"
#include "llama/tokenizers/tokenizer_config.hpp"
#include "llama/tokenizers/tokenizer_json_reader.hpp"
#include "llama/tokenizers/tokenizer_json_steps.hpp"

namespace llama {

namespace {

using nlohmann::json;

class TokenizerJson {
public:
    explicit TokenizerJson(const std::string& path) : reader_(path) {
        // Room that is not used takes no memory; growing takes twice what is there.
        parts_.merges.reserve(BpeParts::most_merges);
        const auto take = [this](const std::string&, const json& merge) {
            read_merge(merge);
            return true;
        };
        const JsonMembers merges[] = {{"/model/merges", JsonMembers::Of::array, take}};
        constexpr std::size_t most_bytes = std::size_t{64} << 20;
        root_ = read_json(path, most_bytes, merges);
    }

    BpeParts read() && {
        read_model(member(root_, "model"));
        read_added_tokens(member(root_, "added_tokens"));
        const TokenizerJsonSteps steps(reader_);
        steps.read_normalizer(member(root_, "normalizer"), parts_);
        steps.read_pre_tokenizer(member(root_, "pre_tokenizer"), parts_);
        steps.read_decoder(member(root_, "decoder"), parts_);
        if (parts_.byte_level && parts_.byte_fallback) reader_.refuse("a byte-level BPE with byte_fallback");
        read_post_processor(member(root_, "post_processor"));
        read_config();
        return std::move(parts_);
    }

private:
    static const json& member(const json& object, const char* key) { return TokenizerJsonReader::member(object, key); }

    // The model and what it is made of.

    void read_model(const json& model) {
        if (!model.is_object()) reader_.fail("has no model: it is no tokenizer of the tokenizers library");
        const json& type = member(model, "type");
        if (!type.is_null() && type != "BPE") reader_.refuse("a model of the type " + reader_.shown(type));
        for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
            const json& affix = member(model, key);
            const bool none = affix.is_null() || (affix.is_string() && affix.get_ref<const std::string&>().empty());
            if (!none) reader_.refuse(std::string("a BPE with ") + key + " " + reader_.shown(affix));
        }
        if (const json& dropout = member(model, "dropout"); !dropout.is_null() && dropout != 0.0) {
            reader_.refuse("a BPE with dropout " + reader_.shown(dropout));
        }
        parts_.ignore_merges = reader_.flag(model, "ignore_merges");
        parts_.byte_fallback = reader_.flag(model, "byte_fallback");
        parts_.fuse_unknown = reader_.flag(model, "fuse_unk");
        read_vocabulary(member(model, "vocab"));
        if (!member(model, "merges").is_array()) reader_.fail("model.merges is no list");
        read_unknown(member(model, "unk_token"));
    }

    void read_vocabulary(const json& vocabulary) {
        if (!vocabulary.is_object() || vocabulary.empty()) reader_.fail("model.vocab is no object with tokens");
        // Some files leave ids out; yet memory stays in proportion to the file.
        const json& added = member(root_, "added_tokens");
        id_limit_ = std::min(4 * (vocabulary.size() + (added.is_array() ? added.size() : 0)), BpeParts::most_tokens);
        for (const auto& [token, value] : vocabulary.items()) {
            const std::size_t id = reader_.id(value, "token " + in_quotes(token), id_limit_);
            if (id >= parts_.tokens.size()) parts_.tokens.resize(id + 1);
            std::string& text = parts_.tokens[id];
            if (!text.empty()) {
                reader_.fail("tokens " + in_quotes(text) + " and " + in_quotes(token) + " have the same id " +
                             std::to_string(id));
            }
            text = token;
        }
    }

    // "a b" or ["a", "b"]
    void read_merge(const json& merge) {
        if (parts_.merges.size() == BpeParts::most_merges) {
            reader_.fail("more than " + std::to_string(BpeParts::most_merges) + " merges");
        }
        if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            parts_.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
            return;
        }
        const std::string both = merge.is_string() ? merge.get<std::string>() : std::string();
        const std::size_t space = both.find(' ');
        if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
            reader_.fail("merge " + std::to_string(parts_.merges.size()) + " is " + reader_.shown(merge) +
                         ", must be two tokens");
        }
        parts_.merges.emplace_back(both.substr(0, space), both.substr(space + 1));
    }

    void read_unknown(const json& unknown) {
        if (unknown.is_null() || (unknown.is_string() && unknown.get_ref<const std::string&>().empty())) return;
        const std::string text = reader_.text(unknown, "model.unk_token");
        parts_.unknown = find(text);
        if (parts_.unknown < 0) reader_.fail("model.unk_token is " + in_quotes(text) + ", which is no token");
    }

    void read_added_tokens(const json& tokens) {
        if (tokens.is_null()) return;
        if (!tokens.is_array()) reader_.fail("added_tokens is no list");
        for (const json& token : tokens) {
            const std::string text = reader_.text(member(token, "content"), "the content of an added token");
            const std::size_t id = reader_.id(member(token, "id"), "added token " + in_quotes(text), id_limit_);
            parts_.added.push_back({text, static_cast<Token>(id), reader_.flag(token, "special"),
                                    reader_.flag(token, "normalized"), reader_.flag(token, "lstrip"),
                                    reader_.flag(token, "rstrip"), reader_.flag(token, "single_word")});
        }
    }

    // Control tokens.

    void read_post_processor(const json& post_processor) {
        for (const json* step : reader_.steps(post_processor, "processors")) {
            const json& type = member(*step, "type");
            if (type == "ByteLevel") continue;
            if (type != "TemplateProcessing") reader_.refuse("a post_processor of the type " + reader_.shown(type));
            const json& single = member(*step, "single");
            if (!single.is_array() || single.empty()) {
                reader_.fail("post_processor.single is no list with an entry");
            }
            bool behind = false;
            for (const json& entry : single) {
                const json& special = member(entry, "SpecialToken");
                if (special.is_null()) {
                    behind = true;
                    continue;
                }
                Token& place = behind ? parts_.appended_end : parts_.begin_of_text;
                if (place >= 0) reader_.refuse("a post_processor with two tokens side by side");
                place = token_of(special, *step);
            }
        }
    }

    Token token_of(const json& special, const json& step) const {
        const std::string name = reader_.text(member(special, "id"), "a token of post_processor.single");
        const json& ids = member(member(member(step, "special_tokens"), name.c_str()), "ids");
        if (!ids.is_array() || ids.size() != 1) {
            reader_.fail("post_processor.special_tokens has not one id for " + in_quotes(name));
        }
        return static_cast<Token>(reader_.id(ids[0], "special token " + in_quotes(name), id_limit_));
    }

    // What is written in tokenizer_config.json takes the place of the post-processor.
    void read_config() {
        const TokenizerConfig config = read_tokenizer_config(reader_.path());
        const Token bos = id_of(config, "bos_token", config.bos, config.add_bos.value_or(false));
        const Token eos = id_of(config, "eos_token", config.eos, true);
        if (eos >= 0) parts_.end_of_text = {eos};
        if (config.add_bos || config.add_eos) {
            parts_.begin_of_text = config.add_bos.value_or(false) ? bos : -1;
            parts_.appended_end = config.add_eos.value_or(false) ? eos : -1;
        }
        if (parts_.end_of_text.empty() && parts_.appended_end >= 0) parts_.end_of_text = {parts_.appended_end};
    }

    Token id_of(const TokenizerConfig& config, const char* name, const std::string& text, bool needed) const {
        if (text.empty()) return -1;
        const Token id = find(text);
        if (id < 0 && needed) {
            throw FileError(config.path, std::string(name) + " is " + in_quotes(text) + ", which " + reader_.path() +
                                             " does not have");
        }
        return id;
    }

    Token find(const std::string& text) const {
        for (const AddedToken& token : parts_.added) {
            if (token.text == text) return token.id;
        }
        const auto found = std::find(parts_.tokens.begin(), parts_.tokens.end(), text);
        return found == parts_.tokens.end() ? -1 : static_cast<Token>(found - parts_.tokens.begin());
    }

    TokenizerJsonReader reader_;
    json root_;  // without the merges
    std::size_t id_limit_ = 0;
    BpeParts parts_;
};

}  // namespace

std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path) {
    BpeParts parts = TokenizerJson(path).read();  // and no longer the file's values, whose memory the next takes
    return std::make_unique<Bpe>(std::move(parts), path);
}

}  // namespace llama
