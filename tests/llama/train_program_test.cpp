// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "llama/formats/safetensors.hpp"
#include "llama/model/random.hpp"
#include "llama/program_runs.hpp"
#include "llama/run_program.hpp"
#include "llama/temporary_directory.hpp"

// freqkv-llama train and finetune as a user runs them, with models that learn a text of twenty words in no time.
namespace llama {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::Outcome;
using test::output_of;
using test::read_text;
using test::run;
using test::Surroundings;
using test::TemporaryDirectory;
using testing::AllOf;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::MatchesRegex;
using testing::Not;

#if defined(_OPENMP)
const std::vector<std::string> thread_counts{"1", "2", "3"};
#else
const std::vector<std::string> thread_counts{"1", "1"};
#endif

const std::string tokenizer = FREQKV_FIXTURES_DIR "/tokenizers/llama2/tokenizer.model";
constexpr double vocabulary = 460;

// Sentences of words that follow each other more or less often.
std::string make_text(std::uint64_t seed, int sentences) {
    constexpr const char* subjects[] = {"the cat", "a dog", "the old man", "rain", "my sister"};
    constexpr const char* verbs[] = {"sat on", "ran over", "looked at", "fell on"};
    constexpr const char* objects[] = {"the mat", "a hill", "the sea", "the roof"};
    Random random(seed);
    const auto one_of = [&](const auto& words) { return words[random.next() % std::size(words)]; };
    std::string text;
    for (int i = 0; i < sentences; ++i) {
        text += std::string(one_of(subjects)) + " " + one_of(verbs) + " " + one_of(objects) + ".\n";
    }
    return text;
}

json parse(const std::string& text) { return json::accept(text) ? json::parse(text) : json{}; }

// All files of a directory.
std::map<std::string, std::string> content_of(const std::string& directory) {
    std::map<std::string, std::string> content;
    for (const auto& entry : fs::directory_iterator(directory)) {
        content[entry.path().filename()] = read_text(entry.path());
    }
    return content;
}

std::vector<std::string> names_of(const std::string& directory) {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : content_of(directory)) names.push_back(name);
    return names;
}

// The columns of loss.csv but for the time that it took.
std::vector<std::vector<std::string>> losses_of(const std::string& directory) {
    std::istringstream lines(read_text(directory + "/loss.csv"));
    std::vector<std::vector<std::string>> rows;
    for (std::string line; std::getline(lines, line);) {
        std::vector<std::string> row;
        std::istringstream cells(line);
        for (std::string cell; std::getline(cells, cell, ',');) row.push_back(cell);
        row.resize(7);
        row.erase(row.begin() + 5);
        rows.push_back(row);
    }
    return rows;
}

// Of the steps [first, first + count).
double mean_loss(const std::string& directory, std::size_t first, std::size_t count) {
    const auto rows = losses_of(directory);
    double sum = 0;
    for (std::size_t i = first; i < first + count; ++i) sum += std::stod(rows.at(1 + i).at(3));
    return sum / static_cast<double>(count);
}

std::size_t steps_of(const std::string& directory) { return losses_of(directory).size() - 1; }

// What a training leaves does not depend on how it went; the times and the picture do.
void expect_same_result(const std::string& a, const std::string& b) {
    EXPECT_EQ(losses_of(a), losses_of(b));
    auto first = content_of(a), second = content_of(b);
    for (auto* const content : {&first, &second}) {
        std::erase_if(*content, [](const auto& file) { return file.first.starts_with("loss."); });
    }
    EXPECT_EQ(first.size(), second.size());
    for (const auto& [name, bytes] : first) EXPECT_TRUE(bytes == second[name]) << name << " differs";
}

// Options that let the weights grow beyond all bounds within some steps.
const Arguments explosion{"--learning-rate", "1e3", "--schedule", "constant", "--warmup", "0",
                          "--weight-decay",  "1e3", "--clip",     "0",        "--steps",  "100"};

// Sends a signal when a line on standard error begins so.
Surroundings signal_at(const std::string& line, int signal) {
    Surroundings with;
    with.on_text = [line, signal, sent = false](pid_t child, const Outcome& outcome) mutable {
        if (sent || outcome.err.find(line) == std::string::npos) return;
        sent = true;
        ::kill(child, signal);
    };
    return with;
}

// A command whose options are replaced by those that are given again.
Arguments changed(Arguments command, const Arguments& options) {
    const auto is_option = [](const std::string& word) { return word.starts_with("--"); };
    for (const std::string& word : options) {
        const auto given = std::find(command.begin(), command.end(), word);
        if (!is_option(word) || given == command.end()) continue;
        command.erase(given, std::find_if(given + 1, command.end(), is_option));
    }
    return command + options;
}

class TrainProgram : public testing::Test {
protected:
    TrainProgram() {
        files_.write("text.txt", make_text(1, 120));
        ::setenv("OMP_WAIT_POLICY", "passive", 1);  // waiting threads leave the processor to other work
    }

    std::string file(const std::string& name) const { return files_ / name; }

    // A training from scratch into `out`, of the text unless other data are among the options. One thread, unless a
    // test is about threads.
    Arguments train(const std::string& out, const Arguments& options = {}) const {
        return with_data({"train",  "--tokenizer",     tokenizer, "--window",   "32", "--dim",     "32", "--layers",
                          "1",      "--heads",         "4",       "--kv-heads", "2",  "--hidden",  "48", "--batch",
                          "8",      "--learning-rate", "2e-2",    "--warmup",   "5",  "--threads", "1",  "--out",
                          file(out)},
                         options);
    }

    Arguments finetune(const std::string& out, const Arguments& options = {}) const {
        return with_data({"finetune", "--model", base(), "--batch", "8", "--steps", "20", "--length", "48",
                          "--learning-rate", "1e-2", "--warmup", "2", "--threads", "1", "--out", file(out)},
                         options);
    }

    // A model that learnt something, made once.
    std::string base() const {
        if (!fs::exists(file("base"))) output_of(train("base", {"--steps", "20", "--type", "f32"}));
        return file("base");
    }

    // Compresses 6 times in a text of 48 tokens.
    static Arguments small_cache() { return {"--policy", "low-pass", "--capacity", "16", "--sinks", "2"}; }

    // Mean loss of the text under a model, in nats.
    double loss(const std::string& model, const Arguments& options) const {
        const std::string result = output_of(
            Arguments{"perplexity", "--model", model, "--text", file("text.txt"), "--threads", "1", "--json", "-"} +
            options);
        return std::log(parse(result).at("perplexity").get<double>());
    }

    TemporaryDirectory files_;

private:
    Arguments with_data(const Arguments& command, const Arguments& options) const {
        for (const char* const data : {"--text", "--token-file", "--instructions"}) {
            if (std::find(options.begin(), options.end(), data) != options.end()) return changed(command, options);
        }
        return changed(command, Arguments{"--text", file("text.txt")} + options);
    }
};

// --- what comes out

TEST_F(TrainProgram, TrainMakesAModelThatPredictsTheText) {
    const Outcome outcome = run(train("model", {"--steps", "40"}));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, MatchesRegex(".*/model: 40 steps, 10240 tokens in 0:[0-9]+, loss [0-9.]+ .*\n"));
    EXPECT_THAT(outcome.err, AllOf(ContainsRegex("step 2 of 40, loss [0-9.]+, [0-9]+ tokens/s, 0:[0-9]+ left\n"),
                                   HasSubstr("step 40 of 40, loss ")));
    EXPECT_NEAR(mean_loss(file("model"), 0, 1), std::log(vocabulary), 0.1) << "before it learnt anything";
    EXPECT_LT(mean_loss(file("model"), 35, 5), 2.5);
    // What is saved is what was trained: the text's loss is that of the last steps, also in 16 bits.
    EXPECT_NEAR(loss(file("model"), {"--window", "33", "--stride", "32", "--policy", "full"}),
                mean_loss(file("model"), 35, 5), 0.3);
    EXPECT_LT(loss(file("model"), small_cache()), 4);
    std::vector<std::string> names = names_of(file("model"));
    std::erase(names, "loss.svg");  // where gnuplot is
    EXPECT_THAT(
        names, ElementsAre("config.json", "loss.csv", "model.safetensors", "tokenizer.model", "tokenizer_config.json"));
    const json config = parse(read_text(files_ / "model/config.json"));
    EXPECT_EQ(config["hidden_size"], 32);
    EXPECT_EQ(config["max_position_embeddings"], 32);
    EXPECT_EQ(config["vocab_size"], vocabulary);
    EXPECT_EQ(config["dtype"], "bfloat16");
    EXPECT_EQ(config["tie_word_embeddings"], false);
}

TEST_F(TrainProgram, TrainSharesTheClassifierOnDemand) {
    output_of(train("own", {"--steps", "5", "--type", "f32"}));
    output_of(train("shared", {"--steps", "5", "--type", "f32", "--tie"}));
    EXPECT_EQ(parse(read_text(files_ / "shared/config.json"))["tie_word_embeddings"], true);
    EXPECT_NEAR(static_cast<double>(fs::file_size(files_ / "own/model.safetensors") -
                                    fs::file_size(files_ / "shared/model.safetensors")),
                vocabulary * 32 * 4, 200);
    EXPECT_LT(loss(file("shared"), small_cache()), std::log(vocabulary));
}

TEST_F(TrainProgram, FinetuneMakesAnAdapterForTheCompressedCache) {
    output_of(finetune("adapter", small_cache()));
    const double before = loss(base(), small_cache());
    const double after = loss(base(), small_cache() + Arguments{"--adapter", file("adapter")});
    EXPECT_LT(after, before - 0.1);
    EXPECT_THAT(names_of(file("adapter")), IsSupersetOf({"adapter_config.json", "adapter_model.safetensors"}));
    const json config = parse(read_text(files_ / "adapter/adapter_config.json"));
    EXPECT_EQ(config["r"], 8);
    EXPECT_EQ(config["lora_alpha"], 16);
    EXPECT_EQ(config["target_modules"], json({"k_proj", "o_proj", "q_proj", "v_proj"}));
    EXPECT_EQ(config["modules_to_save"],
              json({"embed_tokens", "input_layernorm", "model.norm", "post_attention_layernorm"}));
    EXPECT_EQ(read_safetensors(files_ / "adapter/adapter_model.safetensors").tensors.size(), 4u * 2 + 4);
    // Of what is not in the adapter nothing changes.
    output_of(finetune("none", small_cache() + Arguments{"--steps", "1", "--learning-rate", "1e-30"}));
    EXPECT_NEAR(loss(base(), small_cache() + Arguments{"--adapter", file("none")}), before, 0.02);
}

TEST_F(TrainProgram, FinetuneOfAllWeightsMakesAModel) {
    output_of(finetune("whole", small_cache() + Arguments{"--full"}));
    EXPECT_LT(loss(file("whole"), small_cache()), loss(base(), small_cache()) - 0.1);
    EXPECT_THAT(names_of(file("whole")), IsSupersetOf({"config.json", "model.safetensors", "tokenizer.model"}));
    EXPECT_EQ(read_text(files_ / "whole/tokenizer.model"), read_text(tokenizer));
    EXPECT_EQ(parse(read_text(files_ / "whole/config.json"))["dtype"], "bfloat16");
    EXPECT_EQ(parse(read_text(base() + "/config.json"))["dtype"], "float32");
}

TEST_F(TrainProgram, FinetuneTrainsUnderEveryPolicy) {
    std::vector<std::vector<std::vector<std::string>>> losses;
    for (const char* const policy : {"low-pass", "local-window", "low-pass-unscaled", "full"}) {
        Arguments options{"--policy", policy, "--steps", "3"};
        if (policy != std::string("full")) options = options + Arguments{"--capacity", "20", "--recent", "2"};
        output_of(finetune(policy, options));
        for (const auto& other : losses) EXPECT_NE(losses_of(file(policy)), other) << policy;
        losses.push_back(losses_of(file(policy)));
    }
}

json instruction(const std::string& question, const std::string& answer) {
    return {{"instruction", question}, {"output", answer}};
}

TEST_F(TrainProgram, InstructionsTeachTheAnswers) {
    json records = json::array();
    for (int i = 0; i < 12; ++i) records.push_back(instruction("where is the cat?", "on the mat"));
    records.push_back(instruction("is it raining?", ""));
    records.push_back(instruction(make_text(3, 40), make_text(4, 40)));
    files_.write("records.json", records.dump());
    const Arguments options{"--instructions", file("records.json"), "--length",   "100",
                            "--policy",       "low-pass",           "--capacity", "32"};
    const Outcome outcome = run(finetune("adapter", options));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("records.json: 1 records are skipped, 1 cut to --length 100\n"));
    EXPECT_LT(mean_loss(file("adapter"), 15, 5), 0.7 * mean_loss(file("adapter"), 0, 1));
    EXPECT_GT(loss(base(), Arguments{"--adapter", file("adapter")}), 0);
}

TEST_F(TrainProgram, TokensAreAsGoodAsTheirText) {
    output_of(train("text", {"--steps", "3"}));
    output_of({"tokenize", "--tokenizer", tokenizer, "--text", file("text.txt"), "--out", file("ids.u16")});
    output_of(train("u16", {"--steps", "3", "--token-file", file("ids.u16")}));
    expect_same_result(file("u16"), file("text"));
    const std::string ids = read_text(file("ids.u16"));
    std::string decimal;
    for (std::size_t i = 0; i < ids.size(); i += 2) {
        decimal +=
            std::to_string(static_cast<unsigned char>(ids[i]) + 256 * static_cast<unsigned char>(ids[i + 1])) + " ";
    }
    files_.write("ids.txt", decimal);
    output_of(train("decimal", {"--steps", "3", "--token-file", file("ids.txt"), "--token-format", "decimal"}));
    expect_same_result(file("decimal"), file("text"));
}

TEST_F(TrainProgram, ValidationIsMeasuredOnOtherTexts) {
    files_.write("other.txt", make_text(2, 60));
    const Outcome outcome = run(train("model", {"--steps", "20", "--valid", file("other.txt"), "--valid-every", "8",
                                                "--valid-texts", "5", "--json", "-"}));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const auto rows = losses_of(file("model"));
    for (std::size_t step = 1; step <= 20; ++step) {
        EXPECT_EQ(rows.at(step).at(5).empty(), step % 8 != 0) << "step " << step;
    }
    EXPECT_NEAR(std::stod(rows.at(16).at(5)), std::stod(rows.at(16).at(3)), 0.5) << "a text of the same kind";
    EXPECT_THAT(outcome.err, HasSubstr("validation loss"));
    // The rest does not depend on it.
    output_of(train("without", {"--steps", "20"}));
    EXPECT_EQ(read_text(files_ / "model/model.safetensors"), read_text(files_ / "without/model.safetensors"));
}

TEST_F(TrainProgram, JsonSummarisesTheTraining) {
    const Outcome outcome = run(train("model", {"--steps", "4", "--json", "-"}));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const json result = parse(outcome.out);
    ASSERT_TRUE(result.is_object()) << outcome.out;
    EXPECT_EQ(result["out"], file("model"));
    EXPECT_EQ(result["steps"], 4);
    EXPECT_EQ(result["tokens"], 4 * 8 * 32);
    EXPECT_EQ(result["trained_numbers"], 2 * 460 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 3 * 32);
    EXPECT_NEAR(result["loss"], mean_loss(file("model"), 0, 4), 1e-9);
    EXPECT_GT(result["tokens_per_second"], 0);
    EXPECT_GT(result["peak_memory_bytes"], 1 << 20);
    EXPECT_FALSE(result.contains("validation_loss"));
    // Also beside the model.
    EXPECT_EQ(run(train("other", {"--steps", "4", "--json", file("other/run.json")})).status, 0);
    EXPECT_EQ(parse(read_text(files_ / "other/run.json"))["loss"], result["loss"]);
}

TEST_F(TrainProgram, StatusIsALineOnATerminal) {
    Surroundings with;
    with.terminal = true;
    const Outcome outcome = run(train("model", {"--steps", "4"}), with);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("\r\033[2Kstep "), Not(HasSubstr("left\r\n"))));
}

// --- the same result

TEST_F(TrainProgram, DoesNotDependOnThreads) {
    for (const std::string& threads : thread_counts) {
        const Arguments options{"--threads", threads, "--steps", "6"};
        output_of(train("t" + threads, options + Arguments{"--batch", "19"}));
        expect_same_result(file("t" + threads), file("t1"));
        output_of(finetune("f" + threads, small_cache() + options + Arguments{"--batch", "5"}));
        expect_same_result(file("f" + threads), file("f1"));
    }
}

TEST_F(TrainProgram, DependsOnTheSeed) {
    for (const char* const seed : {"1", "2"}) {
        output_of(train(seed, {"--steps", "2", "--seed", seed}));
        output_of(finetune(std::string("f") + seed, {"--steps", "2", "--seed", seed}));
    }
    EXPECT_NE(losses_of(file("1")), losses_of(file("2")));
    EXPECT_NE(losses_of(file("f1")), losses_of(file("f2")));
}

// --- interruptions

// Long enough that a signal at step 8 meets it at work.
const Arguments many_steps{"--batch", "24", "--steps", "40", "--save-every", "5"};

class Interrupted : public TrainProgram, public testing::WithParamInterface<std::string> {
protected:
    Arguments command(const std::string& out, const Arguments& options = {}) const {
        const Arguments all = changed(many_steps, options);
        if (GetParam() == "train") return train(out, all);
        return finetune(out, small_cache() + all + (GetParam() == "whole" ? Arguments{"--full"} : Arguments{}));
    }
};

TEST_P(Interrupted, GoesOnAfterBeingKilled) {
    output_of(command("uninterrupted"));
    for (const std::string& threads : {thread_counts[0], thread_counts[1]}) {
        const std::string out = "killed" + threads;
        const Arguments options{"--threads", threads};
        const Arguments resume = options + Arguments{"--resume"};
        EXPECT_EQ(run(command(out, options), signal_at("step 8 of 40", SIGKILL)).status, 128 + SIGKILL);
        EXPECT_EQ(run(command(out, resume), signal_at("step 18 of 40", SIGKILL)).status, 128 + SIGKILL);
        output_of(command(out, resume));
        // What a kill in the middle of writing leaves.
        for (const std::string& name : names_of(file(out))) {
            if (std::count(name.begin(), name.end(), '.') > 1) fs::remove(file(out + "/" + name));
        }
        expect_same_result(file(out), file("uninterrupted"));
    }
}

TEST_P(Interrupted, SavesItsStateAtASignal) {
    output_of(command("uninterrupted"));
    for (const int signal : {SIGTERM, SIGINT}) {
        const std::string out = "signal" + std::to_string(signal);
        const Outcome outcome = run(command(out, {"--save-every", "1000"}), signal_at("step 8 of 40", signal));
        EXPECT_EQ(outcome.status, 128 + signal);
        EXPECT_THAT(outcome.err, ContainsRegex("freqkv-llama: interrupted after step [0-9]+; the same command with "
                                               "--resume goes on\n$"));
        EXPECT_EQ(outcome.out, "");
        const std::size_t steps = steps_of(file(out));
        EXPECT_GE(steps, 8u);
        EXPECT_LT(steps, 40u);
        // The rest with other threads; how often the state is saved may change, too.
        output_of(command(out, {"--resume", "--save-every", "7", "--threads", thread_counts[1]}));
        expect_same_result(file(out), file("uninterrupted"));
    }
}

INSTANTIATE_TEST_SUITE_P(Trainings, Interrupted, testing::Values("train", "adapter", "whole"),
                         [](const auto& named) { return named.param; });

class Stopped : public TrainProgram {
protected:
    Stopped() {
        const Outcome outcome = run(train("out", many_steps), signal_at("step 2 of 40", SIGTERM));
        EXPECT_EQ(outcome.status, 128 + SIGTERM);
        before_ = content_of(file("out"));
    }

    void expect_untouched() const { EXPECT_TRUE(content_of(file("out")) == before_) << "files were changed"; }

    std::map<std::string, std::string> before_;
};

TEST_F(Stopped, IsResumedWithTheSameOptionsOnly) {
    files_.write("other.txt", make_text(2, 120));
    const std::vector<Arguments> others{{"--steps", "41"},
                                        {"--batch", "23"},
                                        {"--learning-rate", "1e-3"},
                                        {"--schedule", "constant"},
                                        {"--warmup", "6"},
                                        {"--weight-decay", "0.2"},
                                        {"--beta1", "0.8"},
                                        {"--beta2", "0.9"},
                                        {"--clip", "2"},
                                        {"--seed", "1"},
                                        {"--type", "f32"},
                                        {"--length", "31"},
                                        {"--policy", "low-pass"},
                                        {"--dim", "64"},
                                        {"--layers", "2"},
                                        {"--heads", "2"},
                                        {"--kv-heads", "1"},
                                        {"--hidden", "47"},
                                        {"--window", "33"},
                                        {"--rope-base", "5000"},
                                        {"--tie"},
                                        {"--text", file("other.txt")}};
    for (const Arguments& other : others) {
        expect_refusal(run(changed(train("out", many_steps + Arguments{"--resume"}), other)), 2,
                       {other.front() + ": ", "training_state.safetensors was started "});
        expect_untouched();
    }
}

TEST_F(Stopped, IsNotWrittenOver) {
    expect_refusal(run(train("out", many_steps)), 1, {"out: holds a training that was not finished; --resume"});
    expect_untouched();
}

TEST_F(Stopped, KeepsItsFilesWhenItCannotGoOn) {
    const Arguments resume = many_steps + Arguments{"--resume"};
    files_.write("empty.txt", "");
    files_.write("latin.txt", "caf\xe9");
    expect_refusal(run(train("out", resume + Arguments{"--text", file("empty.txt")})), 1, {"empty.txt: the file is"});
    expect_untouched();
    expect_refusal(run(train("out", resume + Arguments{"--text", file("latin.txt")})), 1, {"latin.txt: not UTF-8"});
    expect_untouched();
    std::string state = before_["training_state.safetensors"];
    state.pop_back();
    files_.write("out/training_state.safetensors", state);
    before_ = content_of(file("out"));
    expect_refusal(run(train("out", resume)), 1, {"training_state.safetensors: "});
    expect_untouched();
}

// --- refusals

TEST_F(TrainProgram, RefusesBadData) {
    files_.write("empty.txt", "");
    files_.write("latin.txt", "caf\xe9");
    files_.write("short.txt", "the cat");
    files_.write("odd.u16", "abc");
    files_.write("large.u16", std::string(200, '\xff'));
    files_.write("ids.txt", "1 2 3 460 5");
    files_.write("words.txt", "1 2 three");
    files_.write("broken.json", "[{\"instruction\": ");
    files_.write("object.json", "{}");
    files_.write("unanswered.json", json::array({instruction("a", "b"), {{"instruction", "c"}}}).dump());
    files_.write("number.json", json::array({{{"instruction", 1}, {"output", "a"}}}).dump());
    files_.write("silent.json", json::array({instruction("a", "")}).dump());
    const std::vector<std::pair<Arguments, std::vector<std::string>>> cases{
        {{"--text", file("missing.txt")}, {"missing.txt: No such file"}},
        {{"--text", file("empty.txt")}, {"empty.txt: the file is empty"}},
        {{"--text", file("text.txt"), file("latin.txt")}, {"latin.txt: not UTF-8 at byte 3"}},
        {{"--text", file("short.txt")}, {"short.txt: ", "fewer than the 32 + 1", "--length 32"}},
        {{"--text", file("text.txt"), "--length", "100000"}, {"text.txt: ", "--length 100000"}},
        {{"--text", file("text.txt"), "--valid", file("short.txt")}, {"short.txt: ", "--length 32"}},
        {{"--token-file", file("odd.u16")}, {"odd.u16: 3 bytes are no whole number of 16-bit ids"}},
        {{"--token-file", file("large.u16")}, {"large.u16: token 0 is 65535", "vocabulary of 460"}},
        {{"--token-file", file("ids.txt"), "--token-format", "decimal"}, {"ids.txt: token 3", "vocabulary of 460"}},
        {{"--token-file", file("words.txt"), "--token-format", "decimal"}, {"words.txt: token 2", "\"three\""}},
        {{"--instructions", file("broken.json")}, {"broken.json: no usable JSON"}},
        {{"--instructions", file("object.json")}, {"object.json: ", "no JSON array"}},
        {{"--instructions", file("unanswered.json")}, {"unanswered.json: record 1: output is missing"}},
        {{"--instructions", file("number.json")}, {"number.json: record 0: instruction"}},
        {{"--instructions", file("silent.json")}, {"silent.json: none of its 1 records"}},
        {{"--instructions", file("text.txt")}, {"text.txt: no usable JSON"}},
    };
    for (const auto& [data, words] : cases) {
        SCOPED_TRACE(data.back());
        expect_refusal(run(train("out", data)), 1, words);
        EXPECT_THAT(names_of(file("out")), IsEmpty());
    }
    expect_refusal(run({"train", "--tokenizer", tokenizer, "--out", file("out")}), 2,
                   {"--text", "--token-file", "--instructions"});
    const Arguments two{"--text", file("text.txt"), "--token-file", file("ids.txt")};
    expect_refusal(run(train("out", two)), 2, {"--token-file"});
    const Arguments others{"--text", file("text.txt"), "--instructions", file("object.json")};
    expect_refusal(run(train("out", others)), 2, {"--instructions"});
}

TEST_F(TrainProgram, RefusesSizesAsTheOtherCommandsDo) {
    const std::vector<std::pair<Arguments, std::vector<std::string>>> cases{
        {{"--policy", "full", "--capacity", "16"}, {"--policy full", "--capacity"}},
        {{"--policy", "low-pass", "--capacity", "5"}, {"--capacity 5", "at least sinks + recent + 2"}},
        {{"--policy", "low-pass", "--sinks", "32"}, {"--sinks 32", "at least sinks + recent + 2"}},
        {{"--policy", "local-window", "--recent", "30"}, {"--recent 30", "at least sinks + recent + 2"}},
        {{"--policy", "low-pass", "--ratio", "1"}, {"--ratio", "between 0 and 1"}},
        {{"--policy", "low-pass", "--ratio", "0.001"}, {"--ratio", "keeps nothing"}},
        {{"--policy", "high-pass"}, {"--policy"}},
        {{"--steps", "0"}, {"--steps"}},
        {{"--clip", "-1"}, {"--clip"}},
        {{"--seed", "-1"}, {"--seed"}},
        {{"--type", "f16"}, {"--type"}},
    };
    for (const auto& [options, words] : cases) {
        SCOPED_TRACE(options.back());
        expect_refusal(run(train("out", options)), 2, words);
        EXPECT_TRUE(!fs::exists(file("out")) || fs::is_empty(file("out")));
    }
    // More positions than a model has seen are a matter of taste.
    const Outcome outcome = run(train("long", {"--steps", "1", "--policy", "low-pass", "--capacity", "40"}));
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, HasSubstr("warning: --capacity 40 is above the 32 tokens"));
}

TEST_F(TrainProgram, RefusesShapesThatNoModelHas) {
    const auto with = [&](const std::string& option, const std::string& value) {
        return run(train("out", {option, value}));
    };
    expect_refusal(with("--dim", "36"), 2, {"--dim 36", "2 --heads", "8"});
    expect_refusal(with("--kv-heads", "3"), 1, {"3 key and value heads", "divide", "4 query heads"});
    expect_refusal(with("--learning-rate", "0"), 2, {"--learning-rate"});
    expect_refusal(with("--learning-rate", "1e30"), 2, {"--learning-rate"});
    expect_refusal(with("--tokenizer", file("text.txt")), 1, {"text.txt"});
    const std::string gguf = FREQKV_FIXTURES_DIR "/models/gguf-vocabulary-llama.gguf";
    expect_refusal(with("--tokenizer", gguf), 1, {gguf, "must be tokenizer.model or .json"});
    EXPECT_FALSE(fs::exists(file("out")));
}

TEST_F(TrainProgram, RefusesModelsThatCannotBeTrainedFurther) {
    const auto refused = [&](const std::string& model) { return run(finetune("out", {"--model", model})); };
    const std::string gguf = FREQKV_FIXTURES_DIR "/models/gguf-f32.gguf";
    expect_refusal(refused(gguf), 2, {gguf, "Hugging Face"});
    expect_refusal(refused(file("nowhere")), 2, {"nowhere", "Hugging Face"});
    fs::create_directory(file("nothing"));
    expect_refusal(refused(file("nothing")), 1, {"nothing/config.json"});
    expect_refusal(run(finetune("out", {"--full", "--rank", "4"})), 2, {"--full", "--rank"});
    EXPECT_FALSE(fs::exists(file("out")));
}

TEST_F(TrainProgram, WritesNowhereButIntoItsOwnDirectory) {
    fs::create_directory(file("used"));
    files_.write("used/notes", "mine");
    expect_refusal(run(train("used")), 1, {"used: exists; must be new or an empty directory"});
    EXPECT_THAT(names_of(file("used")), ElementsAre("notes"));
    expect_refusal(run(train("used", {"--resume"})), 2, {"--resume", "training_state.safetensors"});
    expect_refusal(run(train("text.txt")), 1, {"text.txt: exists"});
    expect_refusal(run(train("text.txt/out")), 1, {"text.txt/out: "});
    expect_refusal(run(finetune("base")), 1, {"base: exists"});
    // Noticed before the work, not after it.
    expect_refusal(run(train("out", {"--json", file("nowhere/run.json")})), 1, {"nowhere/run.json"});
    EXPECT_THAT(names_of(file("out")), IsEmpty());
    // A finished training is no state, and stays.
    output_of(train("out", {"--steps", "1"}));
    const auto before = content_of(file("out"));
    expect_refusal(run(train("out", {"--steps", "1"})), 1, {"out: exists"});
    expect_refusal(run(train("out", {"--steps", "1", "--resume"})), 2, {"--resume"});
    EXPECT_TRUE(content_of(file("out")) == before);
}

// --- numbers that are none

TEST_F(TrainProgram, StopsAtALossThatIsNoNumber) {
    output_of(train("base", {"--steps", "1"}));
    std::string weights = read_text(files_ / "base/model.safetensors");
    weights.replace(weights.size() - 2, 2, "\xc0\x7f");  // NaN in BF16
    files_.write("base/model.safetensors", weights);
    for (const Arguments& kind : {Arguments{}, Arguments{"--full"}}) {
        expect_refusal(run(finetune("out", kind)), 1,
                       {"step 1: the loss is not a number", "nothing was saved", "--learning-rate"});
        EXPECT_THAT(names_of(file("out")), IsEmpty());
    }
}

// The validation comes after the step that exploded, before the next step's loss.
TEST_F(TrainProgram, StopsAtAValidationLossThatIsNoNumber) {
    const Arguments validate{"--valid", file("text.txt"), "--valid-every", "1"};
    const Outcome outcome = run(train("out", explosion + validate));
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err,
                ContainsRegex("freqkv-llama: step [0-9]+: the loss is .*, the validation loss not a number; "
                              "nothing was saved; .* --learning-rate"));
    EXPECT_THAT(names_of(file("out")), IsEmpty()) << "the next try may write there";
}

TEST_F(TrainProgram, RefusesAModelWhoseNameAnAdapterCannotHold) {
    expect_refusal(run(finetune("out", {"--model", files_ / "mod\xe8le"})), 2, {"--model: the name", "is not UTF-8"});
    EXPECT_FALSE(fs::exists(file("out")));
}

TEST_F(TrainProgram, KeepsTheLatestStateWhenItExplodes) {
    const Arguments options = explosion + Arguments{"--save-every", "1"};
    const Outcome outcome = run(train("out", options));
    expect_refusal(outcome, 1, {"the loss is ", "not a number", "is kept in " + file("out")});
    const std::size_t steps = steps_of(file("out"));
    EXPECT_GE(steps, 1u);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("step " + std::to_string(steps + 1) + ": the loss is "),
                                   HasSubstr("the state of step " + std::to_string(steps) + " is kept")));
    const auto kept = content_of(file("out"));
    for (const char* const name : {"model.safetensors", "training_state.safetensors"}) {
        EXPECT_TRUE(kept.contains(name)) << name;
    }
    // Again the same, from the state.
    EXPECT_EQ(run(train("out", options + Arguments{"--resume"})).err, outcome.err);
    auto now = content_of(file("out"));
    now["loss.svg"] = kept.contains("loss.svg") ? kept.at("loss.svg") : "";
    for (const auto& [name, bytes] : kept) EXPECT_TRUE(now[name] == bytes) << name;
}

}  // namespace
}  // namespace llama
