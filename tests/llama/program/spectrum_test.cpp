// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::json_of;
using test::output_of;
using test::run;
using testing::HasSubstr;

// A CSV file: its columns by their names, as text.
struct SpectrumCsv {
    std::map<std::string, std::vector<std::string>> columns;

    explicit SpectrumCsv(const std::string& path) {
        const std::vector<char> bytes = read_file(path);
        std::istringstream lines(std::string(bytes.begin(), bytes.end()));
        std::string line;
        std::vector<std::string> names;
        while (std::getline(lines, line)) {
            std::istringstream cells(line);
            std::string cell;
            for (std::size_t i = 0; std::getline(cells, cell, ','); ++i) {
                if (i == names.size() && columns.size() == i) {
                    names.push_back(cell);
                    columns[cell];
                } else {
                    columns.at(names.at(i)).push_back(cell);
                }
            }
        }
    }

    int rows() const { return static_cast<int>(columns.begin()->second.size()); }
    std::vector<double> numbers(const std::string& name) const {
        std::vector<double> numbers;
        for (const std::string& cell : columns.at(name)) numbers.push_back(std::stod(cell));
        return numbers;
    }
};

double sum_of_part(const std::vector<double>& values, std::size_t first, std::size_t end) {
    return std::accumulate(values.begin() + static_cast<std::ptrdiff_t>(first),
                           values.begin() + static_cast<std::ptrdiff_t>(end), 0.0);
}

class SpectrumProgram : public test::ProgramTest {
protected:
    // With other values of options, and more of them.
    Arguments command(const std::vector<std::pair<std::string, std::string>>& given = {}) const {
        std::string text;
        for (int i = 0; i < 300; ++i) text += "We met Jonathan " + std::to_string(i) + " times + 1. ";
        std::map<std::string, std::string> options{{"--model", file("m.bin")},
                                                   {"--text", own_.write("text.txt", text)},
                                                   {"--limit", "150"},
                                                   {"--window", "64"},
                                                   {"--threads", "1"}};
        for (const auto& [name, value] : given) options[name] = value;
        Arguments command{"spectrum"};
        for (const auto& [name, value] : options) command.insert(command.end(), {name, value});
        return command;
    }
    std::string out() const { return own_ / "out"; }
};

TEST_F(SpectrumProgram, WritesSpectraWithAllOfTheEnergy) {
    const json summary = json_of(command({{"--out", out()}}));
    EXPECT_EQ(summary.at("windows"), 2);
    EXPECT_EQ(summary.at("tokens"), 128);
    EXPECT_EQ(summary.at("frequencies"), 60);
    const SpectrumCsv layers(out() + "/layers.csv"), heads(out() + "/heads.csv"), kinds(out() + "/kinds.csv");
    ASSERT_EQ(layers.rows(), 5 * 60);
    ASSERT_EQ(heads.rows(), 5 * 4 * 60);
    ASSERT_EQ(kinds.rows(), 5 * 7);
    EXPECT_EQ(sum_of_part(layers.numbers("frequency"), 60, 120), 59 * 60 / 2);
    EXPECT_EQ(heads.numbers("head")[4 * 60 - 1], 3);
    for (std::size_t l = 0; l < 5; ++l) {
        SCOPED_TRACE(l);
        const std::size_t first = 60 * l;
        for (const std::string signal : {"keys", "values", "rotated_keys"}) {
            SCOPED_TRACE(signal);
            const std::vector<double> power = layers.numbers(signal),
                                      cumulative = layers.numbers(signal + "_cumulative");
            const double all = sum_of_part(power, first, first + 60);
            EXPECT_NEAR(all, sum_of_part(heads.numbers(signal), 4 * first, 4 * (first + 60)) / 4, 1e-5 * all);
            EXPECT_TRUE(std::is_sorted(&cumulative[first], &cumulative[first] + 60));
            for (const std::size_t k : {std::size_t{1}, std::size_t{15}, std::size_t{30}, std::size_t{60}}) {
                EXPECT_NEAR(cumulative[first + k - 1], sum_of_part(power, first, first + k) / all, 1e-5);
            }
            EXPECT_EQ(cumulative[first + 59], 1);
            const json& shares = summary.at("layers")[l].at(signal);
            EXPECT_NEAR(shares.at("mean"), cumulative[first], 1e-7);
            EXPECT_NEAR(shares.at("quarter"), cumulative[first + 14], 1e-7);
            EXPECT_NEAR(shares.at("half"), cumulative[first + 29], 1e-7);
            if (signal == "rotated_keys") {
                EXPECT_NEAR(all, sum_of_part(layers.numbers("keys"), first, first + 60), 1e-4 * all)
                    << "turning keeps lengths";
                continue;
            }
            // Parseval: all of the entries' energy, in 2 windows and 4 heads of 8 dimensions.
            const double energy = sum_of_part(kinds.numbers(signal), 7 * l, 7 * (l + 1));
            EXPECT_NEAR(all * 2 * 4 * 8, energy, 1e-4 * energy);
            EXPECT_NEAR(1 - cumulative[first + 29],
                        sum_of_part(kinds.numbers(signal + "_lost"), 7 * l, 7 * (l + 1)) / energy, 1e-4);
        }
    }
}

TEST_F(SpectrumProgram, ComparesWithExchangedTokens) {
    const auto exchanged = [&](const std::string& part) {
        return json_of(command({{"--out", out()}, {"--exchange", part}})).at("exchanged");
    };
    const json few = exchanged("0.05"), many = exchanged("0.9");
    const SpectrumCsv cosines(out() + "/exchange.csv");
    EXPECT_EQ(cosines.rows(), 5 * 60);
    for (const char* const signal : {"keys", "values"}) {
        for (const double cosine : cosines.numbers(signal)) EXPECT_LE(std::abs(cosine), 1 + 1e-6);
        EXPECT_GT(few[0].at(signal).at("low"), many[0].at(signal).at("low"));
        EXPECT_GT(few[0].at(signal).at("high"), many[0].at(signal).at("high"));
    }
    EXPECT_FALSE(json_of(command()).contains("exchanged"));
}

TEST_F(SpectrumProgram, SaysInShortWhatItFound) {
    const std::string text = output_of(command({{"--sinks", "0"}}));
    for (const char* const part : {"2 windows of 64 tokens, 64 of them", "\n    4   ", "names", "numbers", "symbols"}) {
        EXPECT_THAT(text, HasSubstr(part));
    }
    EXPECT_FALSE(file_exists(out()));
    Arguments standard = command({{"--limit", "50"}});
    standard.erase(std::find(standard.begin(), standard.end(), "--window"), standard.end());
    EXPECT_EQ(json_of(standard).at("window"), 50) << "the whole text";
    for (const std::string& threads : test::thread_counts) {
        EXPECT_EQ(json_of(command({{"--threads", threads}})), json_of(command()));
    }
}

TEST_F(SpectrumProgram, LeavesOutLayersThatSeeAWindow) {
    std::string text;  // of the first tokens alone: the model has 40
    for (int i = 0; i < 50; ++i) text += "+%&#*"[i % 5];
    const json gemma = json_of(command({{"--model", FREQKV_FIXTURES_DIR "/models/gemma3"},
                                        {"--text", own_.write("symbols.txt", text)},
                                        {"--tokenizer", FREQKV_FIXTURES_DIR "/tokenizers/smollm/tokenizer.json"},
                                        {"--window", "16"}}));
    ASSERT_EQ(gemma.at("layers").size(), 1);
    EXPECT_EQ(gemma.at("layers")[0].at("layer"), 1);
}

TEST_F(SpectrumProgram, RefusesWhatCannotBeTransformed) {
    const struct {
        std::vector<std::pair<std::string, std::string>> given;
        int status;
        std::vector<std::string> words;
    } cases[] = {
        {{{"--window", "11"}}, 2, {"--sinks 4", "12 tokens or more"}},
        {{{"--sinks", "60"}}, 2, {"--sinks 60", "68 tokens or more"}},
        {{{"--window", "200"}}, 1, {"text.txt", "it has 150 tokens to read, and 200 are needed"}},
        {{{"--exchange", "1.5"}}, 2, {"--exchange"}},
        {{{"--out", file("m.bin")}}, 1, {"m.bin", "Not a directory"}},
        {{{"--json", own_ / "none/x.json"}}, 1, {"none/x.json", "No such file"}},
        {{{"--model", FREQKV_FIXTURES_DIR "/models/mistral-sliding"}, {"--window", "65"}},
         2,
         {"--window 65", "the latest 64 tokens only"}},
    };
    for (const auto& wrong : cases) {
        SCOPED_TRACE(testing::PrintToString(wrong.given));
        expect_refusal(run(command(wrong.given)), wrong.status, wrong.words);
    }
    expect_refusal(run({"spectrum", "--model", file("m.bin")}), 2, {"--text"});
}

}  // namespace
}  // namespace llama
