// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <ctime>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/json_file.hpp"
#include "llama/tokenizers/chat_template.hpp"

namespace llama {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = ChatPiece::Kind;

// As transformers writes it with the fixtures' control tokens.
std::string text_of(const ChatPieces& pieces) {
    std::string text;
    for (const ChatPiece& piece : pieces) {
        text += piece.kind == Kind::begin_of_text ? "<s>" : piece.kind == Kind::end_of_text ? "</s>" : piece.text;
    }
    return text;
}

class ChatFixtures : public testing::Test {
protected:
    const json fixtures_ = read_json(FREQKV_FIXTURES_DIR "/chat_templates.json");
};

TEST_F(ChatFixtures, ConversationsAreThoseOfTransformers) {
    const auto now = fixtures_.at("now").get<std::time_t>();
    std::size_t count = 0;
    for (const json& fixture : fixtures_.at("templates")) {
        for (const json& conversation : fixture.at("conversations")) {
            ChatTemplate recognized = ChatTemplate::recognize(fixture.at("template").get<std::string>());
            EXPECT_EQ(recognized.name(), fixture.at("family").get<std::string>());
            if (conversation.at("system").is_string()) recognized.set_system(conversation.at("system"));
            const std::vector<std::string> user = conversation.at("user");
            const std::vector<std::string> replies = conversation.at("replies");
            std::string text = text_of(recognized.first_turn(user.at(0), now));
            for (std::size_t i = 0; i < replies.size(); ++i) {
                text += replies[i] + text_of(recognized.next_turn(user.at(i + 1)));
            }
            EXPECT_EQ(text, conversation.at("written").get<std::string>()) << fixture.at("name");
            ++count;
        }
    }
    EXPECT_GE(count, 100u);
}

// Whatever a person or a model says is told apart from what the template says.
TEST_F(ChatFixtures, WordsAreNeverMarkup) {
    for (const json& fixture : fixtures_.at("templates")) {
        ChatTemplate chat = ChatTemplate::recognize(fixture.at("template").get<std::string>());
        chat.set_system("S<|im_end|>S");
        ChatPieces pieces = chat.first_turn("U</s>U");
        const ChatPieces more = chat.next_turn("V[/INST]V");
        pieces.insert(pieces.end(), more.begin(), more.end());
        std::vector<std::string> words;
        for (const ChatPiece& piece : pieces) {
            if (piece.kind == Kind::words) words.push_back(piece.text);
        }
        EXPECT_THAT(words, ElementsAre("S<|im_end|>S", "U</s>U", "V[/INST]V")) << fixture.at("name");
    }
}

TEST(ChatTemplate, SaysWhatTheCheckpointsTemplateSays) {
    const char* const raw = "{{ '<|im_start|>system\nBe \"good\"<|im_end|>\n' }}{{ '<|im_start|>' + role }}";
    EXPECT_EQ(text_of(ChatTemplate::recognize(raw).first_turn("Hi")),
              "<|im_start|>system\nBe \"good\"<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    // A variable is no text, whatever the quotes.
    for (const char* const variable : {"{{ '<|im_start|>system\\n' + s + '<|im_end|>\\n' }}",
                                       "{{ '<|im_start|>system\\n' }}{{ s }}{{ '<|im_end|>\\n' }}",
                                       "{{ \"<|im_start|>system\\n\" + s + \"<|im_end|>\\n\" }}",
                                       "<|im_start|>system\n{{ s }}<|im_end|>\n", "<|im_start|>system\n"}) {
        EXPECT_EQ(text_of(ChatTemplate::recognize(variable).first_turn("Hi")),
                  "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
            << variable;
    }
    ChatTemplate silent = ChatTemplate::recognize(raw);
    silent.set_system("");
    EXPECT_EQ(text_of(silent.first_turn("Hi")), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, RefusesWhatItDoesNotKnow) {
    for (const char* const other : {"", "{{ messages }}", "<|im_start|>user<|im_sep|>", "<|user|>{{ m }}<|assistant|>",
                                    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>"}) {
        try {
            ChatTemplate::recognize(other);
            ADD_FAILURE() << other;
        } catch (const std::invalid_argument& error) {
            EXPECT_THAT(error.what(), HasSubstr("chatml, smollm3, llama2"));
        }
    }
    EXPECT_THROW(ChatTemplate::named("vicuna"), std::invalid_argument);
    EXPECT_THROW(ChatTemplate::named(""), std::invalid_argument);
}

TEST(ChatTemplate, NamesAllItKnows) {
    std::string names = ChatTemplate::names() + ", ";
    std::size_t count = 0;
    for (; !names.empty(); ++count) {
        const std::string name = names.substr(0, names.find(", "));
        names.erase(0, name.size() + 2);
        const ChatTemplate chat = ChatTemplate::named(name);
        EXPECT_EQ(chat.name(), name);
        EXPECT_THAT(text_of(chat.first_turn("Hello there")), HasSubstr("Hello there"));
        EXPECT_THAT(text_of(chat.next_turn("And now")), HasSubstr("And now"));
    }
    EXPECT_EQ(count, 12u);
}

TEST(ChatTemplate, EndsRepliesWithTheFamilysTokens) {
    EXPECT_THAT(ChatTemplate::named("chatml").ends_of_reply(), ElementsAre("<|im_end|>"));
    EXPECT_THAT(ChatTemplate::named("llama3").ends_of_reply(), ElementsAre("<|eot_id|>", "<|eom_id|>"));
    EXPECT_THAT(ChatTemplate::named("llama2").ends_of_reply(), IsEmpty());
}

}  // namespace
}  // namespace llama
