// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "llama/formats/hugging_face_rope.hpp"
#include "llama/io/json_object.hpp"
#include "llama/model/config.hpp"

namespace llama {

enum class HuggingFaceFamily : std::uint8_t { llama, mistral, qwen2, qwen3, smollm3, phi3, gemma2, gemma3 };

/// An architecture, and what transformers takes where its config.json is silent.
struct HuggingFaceArchitecture {
    HuggingFaceFamily family;
    const char* name;            ///< "LlamaForCausalLM"
    const char* model_type;      ///< "llama"
    const char* title;           ///< for people
    Index context;               ///< max_position_embeddings
    Index vocabulary = 0;        ///< vocab_size; 0: it must not be silent of it
    Index heads = 0;             ///< num_attention_heads; 0: the same
    Index kv_heads = 0;          ///< 0: as many as there are query heads
    Index head_dim = 0;          ///< 0: the width divided by the heads
    Index sliding_window = 0;    ///< 0: none
    Token begin_of_text = -1;    ///< -1: none
    Token end_of_text = -1;      ///< -1: none
    bool tied = false;           ///< tie_word_embeddings
    double norm_epsilon = 1e-6;  ///< rms_norm_eps
    RopeDefaults rope{};
    /// The text's model is a part of one that sees images, too: its settings are text_config, its tensors begin with
    /// "language_model.".
    bool part = false;

    bool is_gemma() const { return family == HuggingFaceFamily::gemma2 || family == HuggingFaceFamily::gemma3; }
};

/// The one that a config.json names. Throws FileError for others.
const HuggingFaceArchitecture& find_architecture(const JsonObject& object);

}  // namespace llama
