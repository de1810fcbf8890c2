// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_architecture.hpp"

#include <string>

#include <nlohmann/json.hpp>

namespace llama {

namespace {

using Family = HuggingFaceFamily;

constexpr HuggingFaceArchitecture architectures[] = {
    {.family = Family::llama,
     .name = "LlamaForCausalLM",
     .model_type = "llama",
     .title = "Llama",
     .context = 2048,
     .begin_of_text = 1,
     .end_of_text = 2},
    {.family = Family::mistral,
     .name = "MistralForCausalLM",
     .model_type = "mistral",
     .title = "Mistral",
     .context = 131072,
     .kv_heads = 8,
     .sliding_window = 4096,
     .begin_of_text = 1,
     .end_of_text = 2},
    {.family = Family::qwen2,
     .name = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .title = "Qwen2",
     .context = 32768,
     .kv_heads = 32,
     .sliding_window = 4096},
    {.family = Family::qwen3,
     .name = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .title = "Qwen3",
     .context = 32768,
     .kv_heads = 32,
     .head_dim = 128,
     .sliding_window = 4096},
    {.family = Family::smollm3,
     .name = "SmolLM3ForCausalLM",
     .model_type = "smollm3",
     .title = "SmolLM3",
     .context = 32768,
     .kv_heads = 4,
     .begin_of_text = 128000,
     .end_of_text = 128001,
     .tied = true,
     .rope = {.base = 2e6}},
    {.family = Family::phi3,
     .name = "Phi3ForCausalLM",
     .model_type = "phi3",
     .title = "Phi-3",
     .context = 4096,
     .begin_of_text = 1,
     .end_of_text = 32000,
     .norm_epsilon = 1e-5,
     .rope = {.partial = true, .longrope_only = true, .original_context = 4096}},
    {.family = Family::gemma2,
     .name = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .title = "Gemma 2",
     .context = 8192,
     .kv_heads = 4,
     .head_dim = 256,
     .sliding_window = 4096,
     .begin_of_text = 2,
     .end_of_text = 1,
     .tied = true},
    {.family = Family::gemma3,
     .name = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .title = "Gemma 3",
     .context = 131072,
     .vocabulary = 262208,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 256,
     .sliding_window = 4096,
     .begin_of_text = 2,
     .end_of_text = 1,
     .tied = true,
     .rope = {.base = 1e6, .local_base = 1e4}},
    {.family = Family::gemma3,
     .name = "Gemma3ForConditionalGeneration",
     .model_type = "gemma3",
     .title = "Gemma 3",
     .context = 131072,
     .vocabulary = 262208,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 256,
     .sliding_window = 4096,
     .begin_of_text = 2,
     .end_of_text = 1,
     .tied = true,
     .rope = {.base = 1e6, .local_base = 1e4},
     .part = true},
};

template <class Member>
std::string list_of(Member member) {
    std::string list;
    for (const HuggingFaceArchitecture& architecture : architectures) {
        list += (list.empty() ? "" : ", ") + std::string(architecture.*member);
    }
    return list;
}

}  // namespace

const HuggingFaceArchitecture& find_architecture(const JsonObject& object) {
    if (const nlohmann::json* const names = object.find("architectures")) {
        const bool named = names->is_array() && !names->empty() && names->front().is_string();
        if (!named) object.fail("architectures", *names, "must be a list of names");
        for (const HuggingFaceArchitecture& architecture : architectures) {
            if (names->front() == architecture.name) return architecture;
        }
        object.fail("the architecture", names->front(), "supported are " + list_of(&HuggingFaceArchitecture::name));
    }
    const std::string type = object.required("architectures", object.text("model_type"));
    for (const HuggingFaceArchitecture& architecture : architectures) {
        if (type == architecture.model_type) return architecture;
    }
    object.fail("model_type", type, "supported are " + list_of(&HuggingFaceArchitecture::model_type));
}

}  // namespace llama
