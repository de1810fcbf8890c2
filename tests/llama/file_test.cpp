// SPDX-License-Identifier: MIT
#include "llama/io/file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/formats/torch_file.hpp"
#include "llama/io/json_file.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizers/llama2c_tokenizer.hpp"
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"
#include "llama/tokenizers/token_file.hpp"
#include "llama/tokenizers/tokenizer_json.hpp"

#include <nlohmann/json.hpp>

namespace llama {
namespace {

using test::refusal_of;
using testing::HasSubstr;

std::string make_pipe(const test::TemporaryDirectory& directory, const std::string& name) {
    const std::string path = directory / name;
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    return path;
}

// A directory from elsewhere may have one under any name; who opens it would wait for a writer.
TEST(File, PipesAreNoFilesOfAModel) {
    const test::TemporaryDirectory directory;
    const std::string path = make_pipe(directory, "pipe");
    const std::string refused = path + ": not a regular file";
    EXPECT_EQ(refusal_of([&] { MappedFile{path}; }), refused);
    EXPECT_EQ(refusal_of([&] { read_file(path); }), refused);
    EXPECT_EQ(refusal_of([&] { read_json(path); }), refused);
    EXPECT_EQ(refusal_of([&] { read_safetensors(path); }), refused);
    EXPECT_EQ(refusal_of([&] { read_torch_file(path); }), refused);
    EXPECT_EQ(refusal_of([&] { open_checkpoint(path); }), refused);
    EXPECT_EQ(refusal_of([&] { read_tokenizer_json(path); }), refused);
    EXPECT_EQ(refusal_of([&] { SentencePieceTokenizer{path}; }), refused);
    EXPECT_EQ(refusal_of([&] { Llama2cTokenizer(path, 300); }), refused);
    EXPECT_EQ(refusal_of([&] { read_tokens(path, "u16", 100, 0); }), refused);
    make_pipe(directory, "config.json");
    EXPECT_EQ(refusal_of([&] { open_checkpoint(directory.path()); }), directory / "config.json: not a regular file");
    EXPECT_EQ(refusal_of([&] { read_file("/dev/zero"); }), "/dev/zero: not a regular file");
    EXPECT_THAT(refusal_of([&] { read_file(directory.path()); }), HasSubstr("Is a directory"));
}

TEST(File, TextsMayComeThroughAPipeThatSomeoneWritesInto) {
    const test::TemporaryDirectory directory;
    const std::string path = make_pipe(directory, "pipe");
    EXPECT_TRUE(read_text_file(path).empty()) << "nobody does";
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ASSERT_EQ(::write(ends[1], "1 2 3", 5), 5);
    ::close(ends[1]);
    EXPECT_EQ(read_token_file("/proc/self/fd/" + std::to_string(ends[0]), 10, 0), (std::vector<Token>{1, 2, 3}));
    ::close(ends[0]);
    EXPECT_EQ(refusal_of([&] { read_text_file("/dev/zero"); }), "/dev/zero: not a regular file");
}

// The last message, and no core: in a process of its own.
TEST(FileDeathTest, AFileThatGetsShorterIsNamed) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    const auto read_shortened = [] {
        Mappings::install_handler();
        const test::TemporaryDirectory directory;
        const MappedFile first(directory.write("first", std::string(100'000, 'x')));
        const MappedFile file(directory.write("model\x1b", std::string(100'000, 'x')));
        if (::truncate((directory / "model\x1b").c_str(), 10) != 0) return;
        const volatile std::byte byte = file.bytes()[50'000];
        (void)byte;
    };
    EXPECT_EXIT(read_shortened(), testing::ExitedWithCode(1),
                "^freqkv-llama: /[^\n]*/model.x1b: got shorter while it was read, or its disk failed\n$");
}

}  // namespace
}  // namespace llama
