// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "llama/tokenizers/bpe.hpp"
#include "llama/tokenizers/tokenizer_json_reader.hpp"

namespace llama {

/// What a tokenizer.json says about the way of a text to the merges, and back.
class TokenizerJsonSteps {
public:
    explicit TokenizerJsonSteps(const TokenizerJsonReader& reader) : reader_(reader) {}

    void read_normalizer(const nlohmann::json& normalizer, BpeParts& parts) const;
    void read_pre_tokenizer(const nlohmann::json& pre_tokenizer, BpeParts& parts) const;
    void read_decoder(const nlohmann::json& decoder, BpeParts& parts) const;

private:
    void read_byte_level(const nlohmann::json& step, bool alone, BpeParts& parts) const;
    void read_metaspace(const nlohmann::json& step, BpeParts& parts) const;
    void read_split(const nlohmann::json& step, BpeParts& parts) const;
    PrefixSpace prefix_of(const nlohmann::json& metaspace) const;

    const TokenizerJsonReader& reader_;
};

}  // namespace llama
