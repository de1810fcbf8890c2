// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "llama/gguf_writer.hpp"
#include "llama/io/file.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizers/chat_template_file.hpp"

namespace llama {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal_of(const std::string& name, const std::string& model) {
    try {
        open_chat_template(name, model);
    } catch (const FileError& error) {
        return error.what();
    }
    return "";
}

TEST(ChatTemplateFile, IsFoundInAModelsDirectory) {
    const test::TemporaryDirectory model;
    EXPECT_EQ(read_chat_template(model.path()), std::nullopt);
    model.write("tokenizer_config.json", R"({"eos_token": "</s>"})");
    EXPECT_EQ(read_chat_template(model.path()), std::nullopt);
    model.write("chat_template.json", R"({"chat_template": "of its own"})");
    EXPECT_EQ(read_chat_template(model.path()), "of its own");
    model.write("tokenizer_config.json", R"({"chat_template": "one"})");
    EXPECT_EQ(read_chat_template(model.path()), "one");
    model.write("tokenizer_config.json",
                R"({"chat_template": [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}]})");
    EXPECT_EQ(read_chat_template(model.path()), "b");
    model.write("chat_template.jinja", "{{ '<|im_start|>' }}");
    EXPECT_EQ(read_chat_template(model.path()), "{{ '<|im_start|>' }}");
    EXPECT_EQ(open_chat_template("", model.path()).name(), "chatml");
    EXPECT_EQ(open_chat_template("gemma", model.path()).name(), "gemma");
    EXPECT_THROW(open_chat_template("vicuna", model.path()), UsageError);
}

TEST(ChatTemplateFile, IsFoundInAGgufFile) {
    const test::TemporaryDirectory directory;
    test::GgufWriter writer;
    writer.set("tokenizer.chat_template", "<start_of_turn>");
    const std::string model = directory.write("m.gguf", writer.bytes());
    EXPECT_EQ(open_chat_template("", model).name(), "gemma");
    const std::string without = directory.write("n.gguf", test::GgufWriter().bytes());
    EXPECT_THAT(refusal_of("", without), AllOf(HasSubstr(without), HasSubstr("no chat template"), HasSubstr("chatml")));
}

TEST(ChatTemplateFile, IsRefusedIfItIsOfNoUse) {
    const test::TemporaryDirectory model;
    model.write("chat_template.jinja", "{{ messages }}");
    EXPECT_THAT(refusal_of("", model.path()), AllOf(HasSubstr("is none of chatml"), HasSubstr("--template")));
    model.write("chat_template.jinja", std::string((1 << 20) + 1, 'x'));
    EXPECT_THAT(refusal_of("", model.path()), HasSubstr("1048577 bytes"));
    const test::TemporaryDirectory other;
    for (const char* const wrong :
         {"7", "[]", R"([{"name": "default"}])", "[3]", R"([{"name": 1, "template": "x"}])"}) {
        other.write("tokenizer_config.json", std::string(R"({"chat_template": )") + wrong + "}");
        EXPECT_THAT(refusal_of("", other.path()), HasSubstr("chat_template is no text")) << wrong;
    }
    other.write("tokenizer_config.json", "[");
    EXPECT_THAT(refusal_of("", other.path()), HasSubstr("tokenizer_config.json"));
}

}  // namespace
}  // namespace llama
