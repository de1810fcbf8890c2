// SPDX-License-Identifier: MIT
#include "llama/training/training_output.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/adapter.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/training/trainable_llama.hpp"

namespace llama {
namespace {

using test::read_text;
using test::refusal_of;
using test::TemporaryDirectory;
using testing::HasSubstr;

Config small_config() {
    Config config;
    config.dim = 8;
    config.hidden = 12;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 2;
    config.vocabulary = 10;
    config.context = 16;
    config.rope_pairing = freqkv::RopePairing::half_split;
    return config;
}

class Output : public testing::Test {
protected:
    std::string path() const { return files_ / "out"; }

    TrainingOutput open(bool resume = false) const {
        return TrainingOutput(path(), WeightType::f32, {.directory = files_ / "model"}, resume);
    }

    std::vector<TrainingTensor> tensors() { return {{"trained", model_.trained()}}; }

    void save(const TrainingOutput& output) { output.save(model_, options_, progress_, tensors()); }

    std::map<std::string, std::string> content() const {
        std::map<std::string, std::string> content;
        for (const auto& entry : std::filesystem::directory_iterator(path())) {
            content[entry.path().filename()] = read_text(entry.path());
        }
        return content;
    }

    TemporaryDirectory files_;
    TrainableLlama model_{small_config(), 1};
    nlohmann::json options_ = {{"steps", 5}};
    TrainingProgress progress_{1, {{1, 64, 1e-3, 2.5, 1, 0.1, {}}}};
};

TEST_F(Output, HasTheModelAndTheStateUntilItIsFinished) {
    progress_.step = 1;
    save(TrainingOutput(path(), WeightType::f32, {}, false));
    const Checkpoint checkpoint = open_checkpoint(path());
    const TrainableLlama read(checkpoint, std::nullopt, 0);
    ASSERT_EQ(read.trained().size(), model_.trained().size());
    EXPECT_TRUE(std::equal(read.trained().begin(), read.trained().end(), model_.trained().begin()));

    TrainableLlama restored(small_config(), 2);
    std::optional<TrainingOutput> output(std::in_place, path(), WeightType::f32, ModelSource{}, true);
    EXPECT_THAT(refusal_of([&] { open(true); }), HasSubstr("out: in use: another process"));
    const std::vector<TrainingTensor> numbers{{"trained", restored.trained()}};
    EXPECT_FALSE(output->is_finished(options_));
    const TrainingProgress progress = output->load(options_, numbers);
    EXPECT_EQ(progress.step, 1);
    EXPECT_EQ(progress.points, progress_.points);
    EXPECT_TRUE(std::equal(restored.trained().begin(), restored.trained().end(), model_.trained().begin()));

    EXPECT_TRUE(content().contains("training_state.safetensors"));
    output->finish();
    output.reset();
    EXPECT_FALSE(content().contains("training_state.safetensors"));
    EXPECT_THROW(open(true), UsageError) << "these are not the last weights, and there is nothing to resume";
    EXPECT_THAT(refusal_of([&] { open(); }), HasSubstr("out: exists; must be new or an empty directory"));
}

TEST_F(Output, IsFinishedWithTheWeightsOfTheLastStep) {
    options_["steps"] = 1;
    {
        const TrainingOutput output(path(), WeightType::f32, {}, false);
        output.begin(options_);
        save(output);
        output.finish();
    }
    EXPECT_THAT(refusal_of([&] { open(); }), HasSubstr("out: holds a training that is finished"));
    const TrainingOutput output(path(), WeightType::f32, {}, true);
    EXPECT_TRUE(output.is_finished(options_));
    options_["seed"] = 3;
    EXPECT_THROW(output.is_finished(options_), UsageError);
}

// A killed training leaves that, or what a temporary file was to become, and nothing else.
TEST_F(Output, BeginsAnewWhereNothingWasDone) {
    open().begin(options_);
    files_.write("out/training_state.safetensors.freqkv-abcdef", "half");
    files_.write("out/config.json.freqkv-abcdef", "half");
    EXPECT_EQ(refusal_of([&] { open(); }), "accepted");
    EXPECT_THAT(content(), testing::ElementsAre(testing::Key("training_state.safetensors")));
    const std::vector<float> before(model_.trained().begin(), model_.trained().end());
    EXPECT_EQ(open(true).load(options_, tensors()).step, 0);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), model_.trained().begin()));
    files_.write("out/config.json", "{}");
    EXPECT_THAT(refusal_of([&] { open(); }), HasSubstr("holds a training that was not finished; --resume goes on"));
}

TEST_F(Output, IsKnownToBeWritableBeforeTheWork) {
    if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
    std::filesystem::create_directory(path());
    std::filesystem::permissions(path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
    EXPECT_THAT(refusal_of([&] { open(); }), HasSubstr("training_state.safetensors: Permission denied"));
    std::filesystem::permissions(path(), std::filesystem::perms::owner_all);
}

TEST_F(Output, OfAnAdapterMergesToTheTrainedModel) {
    const std::string base = files_ / "model";
    TrainingOutput(base, WeightType::f32, {}, false).save(model_, options_, progress_, tensors());
    TrainableLlama adapted(open_checkpoint(base), LoraOptions{2, 3}, 1);
    float number = 0;
    for (float& trained : adapted.trained()) trained += 0.1f * std::sin(++number);
    adapted.refresh();
    const std::vector<TrainingTensor> numbers{{"trained", adapted.trained()}};
    open().save(adapted, options_, progress_, numbers);

    Checkpoint merged = open_checkpoint(base);
    merge_adapter(merged, path());
    const TrainableLlama actual(merged, std::nullopt, 0);
    const TrainableLlama expected(adapted.checkpoint(), std::nullopt, 0);
    for (std::size_t i = 0; i < actual.trained().size(); ++i) {
        ASSERT_NEAR(actual.trained()[i], expected.trained()[i], 1e-6f) << "number " << i;
    }
    EXPECT_FALSE(std::equal(actual.trained().begin(), actual.trained().end(), model_.trained().begin()));
}

TEST_F(Output, KeepsItsFilesRatherThanTakeNumbersThatAreNone) {
    const TrainingOutput output(path(), WeightType::f32, {}, false);
    save(output);
    const auto before = content();
    const float kept = model_.trained()[7];
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        model_.trained()[7] = bad;
        EXPECT_THAT(refusal_of([&] { save(output); }),
                    HasSubstr("not written: tensor \"trained\" has an element that is "));
        EXPECT_TRUE(content() == before);
    }
    model_.trained()[7] = kept;
    progress_.points.back().validation_loss = NAN;
    EXPECT_THAT(refusal_of([&] { save(output); }), HasSubstr("not written: step 1 has among its losses what is "));
    EXPECT_TRUE(content() == before);
}

TEST_F(Output, RefusesDirectoriesThatAreInUse) {
    std::filesystem::create_directory(path());
    EXPECT_EQ(refusal_of([&] { open(); }), "accepted") << "empty";
    files_.write("out/notes", "mine");
    EXPECT_THAT(refusal_of([&] { open(); }), HasSubstr("out: exists; must be new or an empty directory"));
    EXPECT_THROW(open(true), UsageError);
    files_.write("out/training_state.safetensors", "");
    EXPECT_THAT(refusal_of([&] { open(); }),
                HasSubstr("out: holds a training that was not finished; --resume goes on"));
    EXPECT_EQ(refusal_of([&] { open(true); }), "accepted");
    EXPECT_EQ(content().size(), 2u);
}

TEST_F(Output, RefusesATokenizerThatCannotStandBesideTheModel) {
    const auto open = [&] { TrainingOutput(path(), WeightType::f32, {.tokenizer = "tokenizer.gguf"}, false); };
    EXPECT_THAT(refusal_of(open), HasSubstr("must be tokenizer.model or .json"));
    EXPECT_FALSE(std::filesystem::exists(path()));
}

}  // namespace
}  // namespace llama
