// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/formats/random_checkpoint.hpp"
#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::expect_refusal;
using test::ProgramTest;
using test::read_text;
using test::run;
using test::Surroundings;

TEST_F(ProgramTest, RefusesBadModels) {
    const std::string good = read_text(file("m.bin"));
    const auto model = [&](const std::string& content) { return own_.write("bad.bin", content); };
    const auto with_field = [&](std::size_t field, std::int32_t value) {
        std::string bytes = good;
        std::memcpy(bytes.data() + 4 * field, &value, sizeof value);
        return bytes;
    };
    const struct {
        std::string path;
        std::vector<std::string> words;
    } cases[] = {
        {own_ / "missing.bin", {"missing.bin", "No such file"}},
        {own_.path(), {own_.path(), "config.json"}},
        {own_ / "missing.bin/m.bin", {"missing.bin/m.bin"}},
        {model(""), {"bad.bin", "empty"}},
        {own_.write("short.bin", good.substr(0, 20)), {"short.bin", "header"}},
        {own_.write("half.bin", good.substr(0, good.size() / 2)), {"half.bin", "truncated"}},
        {own_.write("almost.bin", good.substr(0, good.size() - 1)), {"almost.bin", "truncated"}},
        {own_.write("long.bin", good + "x"), {"long.bin", "too long"}},
        {own_.write("negative.bin", with_field(0, -64)), {"negative.bin", "width is -64"}},
        {own_.write("layers.bin", with_field(2, -1)), {"layers.bin", "layers is -1"}},
        {own_.write("absurd.bin", with_field(1, 2147483647)), {"absurd.bin", "feed-forward width is 2147483647"}},
        {own_.write("context.bin", with_field(6, 2147483647)), {"context.bin", "trained context is 2147483647"}},
        {own_.write("large.bin", with_field(2, 16000)), {"large.bin", "truncated"}},
        {own_.write("heads.bin", with_field(3, 7)), {"heads.bin", "size of a head is 9"}},
        {own_.write("text.bin", "a text and no model at all, but long enough for a header"), {"text.bin", "width"}},
    };
    const std::vector<std::string> before = own_.names();
    for (const auto& bad : cases) {
        SCOPED_TRACE(bad.path);
        expect_refusal(run({"generate", "--model", bad.path}), 1, bad.words);
        expect_refusal(run({"inspect", "--model", bad.path}), 1, bad.words);
        expect_refusal(
            run({"perplexity", "--model", bad.path, "--token-file", file("ids.txt"), "--json", own_ / "result.json"}),
            1, bad.words);
    }
    EXPECT_EQ(own_.names(), before);
}

TEST_F(ProgramTest, RefusesBadTokenizers) {
    const std::string good = read_text(file("m.tokenizer.bin"));
    const struct {
        std::string path;
        std::vector<std::string> words;
    } cases[] = {
        {own_ / "missing.bin", {"missing.bin", "No such file"}},
        {own_.path(), {own_.path(), "no tokenizer there", "tokenizer.json, tokenizer.model"}},
        {own_.write("empty.bin", ""), {"empty.bin", "empty"}},
        {own_.write("short.bin", good.substr(0, good.size() - 3)), {"short.bin", "512"}},
        {own_.write("small.bin", syllable_tokenizer(400)), {"small.bin", "ends after 400 tokens", "512"}},
        {own_.write("large.bin", syllable_tokenizer(600)), {"large.bin", "follow", "512"}},
        {file("m.bin"), {"m.bin", "not a tokenizer"}},
    };
    for (const auto& bad : cases) {
        SCOPED_TRACE(bad.path);
        expect_refusal(run(generate() + Arguments{"--tokenizer", bad.path}), 1, bad.words);
        expect_refusal(
            run({"perplexity", "--model", file("m.bin"), "--text", file("ids.txt"), "--tokenizer", bad.path}), 1,
            bad.words);
    }
}

TEST_F(ProgramTest, RefusesBadTexts) {
    const auto with_ids = [&](const std::string& name, const std::string& content) {
        return run({"perplexity", "--model", file("m.bin"), "--token-file", own_.write(name, content), "--json",
                    own_ / "result.json"});
    };
    expect_refusal(with_ids("a.txt", "1 2 512 3"), 1, {"a.txt", "token 2", "\"512\"", "512"});
    expect_refusal(with_ids("b.txt", "1 -2 3"), 1, {"b.txt", "token 1", "\"-2\""});
    expect_refusal(with_ids("c.txt", "1 99999999999999999999"), 1, {"c.txt", "token 1", "99999999999999999999"});
    expect_refusal(with_ids("d.txt", "1 2\nthree 4"), 1, {"d.txt", "token 2", "\"three\""});
    expect_refusal(with_ids("e.txt", "1 2.5"), 1, {"e.txt", "token 1", "\"2.5\""});
    expect_refusal(with_ids("f.txt", std::string("1 \0\x1b[2J 3", 9)), 1, {"f.txt", "token 1"});
    expect_refusal(with_ids("g.txt", "1 " + std::string(100000, 'x')), 1, {"g.txt", "token 1"});
    expect_refusal(with_ids("h.txt", ""), 1, {"h.txt", "at least 2"});
    expect_refusal(with_ids("i.txt", "7"), 1, {"i.txt", "at least 2"});
    EXPECT_FALSE(std::filesystem::exists(own_ / "result.json"));
    expect_refusal(run({"perplexity", "--model", file("m.bin"), "--token-file", own_ / "missing.txt"}), 1,
                   {"missing.txt", "No such file"});
    expect_refusal(run({"perplexity", "--model", file("m.bin"), "--text", own_.path()}), 1, {"Is a directory"});

    const std::string bad_text = own_.write("bad.txt", "abc\xff");
    expect_refusal(run({"perplexity", "--model", file("m.bin"), "--text", bad_text}), 1, {"bad.txt", "byte 3"});
    expect_refusal(run(generate() + Arguments{"--prompt", "ab\xc3("}), 1, {"--prompt", "UTF-8", "byte 2"});
    Surroundings with;
    with.input = "abcde\x80";
    expect_refusal(run(generate() + Arguments{"--prompt", "-"}, with), 1, {"standard input", "UTF-8", "byte 5"});
}

TEST_F(ProgramTest, RefusesOutputItCannotWriteBeforeItComputes) {
    // It would take long to notice this at the end.
    std::string ids;
    for (int i = 0; i < 3000000; ++i) ids += "7 ";
    const Arguments command{"perplexity", "--model", file("m.bin"), "--token-file", own_.write("long.txt", ids),
                            "--json"};
    expect_refusal(run(command + Arguments{own_ / "missing/result.json"}), 1, {"missing/result.json", "No such file"});
    expect_refusal(run(command + Arguments{own_.path()}), 1, {own_.path(), "Is a directory"});
    expect_refusal(run(command + Arguments{own_ / "long.txt/result.json"}), 1, {"long.txt/result.json"});
    if (std::filesystem::exists("/proc/self")) {  // where not even root can
        expect_refusal(run(command + Arguments{"/proc/result.json"}), 1, {"/proc/result.json"});
    }
    expect_refusal(run({"inspect", "--model", file("m.bin"), "--json", own_ / "missing/result.json"}), 1,
                   {"missing/result.json"});
    EXPECT_EQ(own_.names(), Arguments{"long.txt"});
}

TEST_F(ProgramTest, RefusesCachesBeyondAllMemory) {
    expect_refusal(run(generate() + Arguments{"--capacity", "10000000000"}), 1, {"10000000000 entries", "MiB"});
    expect_refusal(run(generate() + Arguments{"--capacity", "1099511627776"}), 1, {"1099511627776 entries", "MiB"});
}

}  // namespace
}  // namespace llama
