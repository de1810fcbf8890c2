// SPDX-License-Identifier: MIT
#include "llama/training/training_state.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "llama/hugging_face_files.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::TemporaryDirectory;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// Two parameters and a moment, with numbers that only their bits describe.
struct Numbers {
    std::vector<float> weight, bias, moment;

    explicit Numbers(unsigned seed) : weight(1000), bias(3), moment(1000) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        for (std::vector<float>* const all : {&weight, &bias, &moment}) {
            for (float& number : *all) number = normal(random);
        }
        weight[0] = -0.0f;
        weight[1] = std::numeric_limits<float>::denorm_min();
        weight[2] = std::numeric_limits<float>::max();
    }

    std::vector<TrainingTensor> tensors() { return {{"weight", weight}, {"bias", bias}, {"weight.m", moment}}; }

    std::string bits() const {
        std::string bits;
        for (const std::vector<float>* const all : {&weight, &bias, &moment}) {
            bits.append(reinterpret_cast<const char*>(all->data()), all->size() * sizeof(float));
        }
        return bits;
    }
};

class TrainingState : public testing::Test {
protected:
    void write() { write_training_state(path_, options_, progress_, written_.tensors()); }

    std::string refusal_to_read(const std::vector<TrainingTensor>& tensors) {
        return test::refusal_of([&] { read_training_state(path_, options_, tensors); });
    }
    std::string refusal_to_read() { return refusal_to_read(read_.tensors()); }
    std::string refusal_to_write() {
        return test::refusal_of([&] { write(); });
    }

    std::string usage_error(const json& options) {
        try {
            read_training_state(path_, options, read_.tensors());
        } catch (const UsageError& error) {
            return error.what();
        }
        return "accepted";
    }

    TemporaryDirectory directory_;
    std::string path_ = directory_ / "state.safetensors";
    json options_ = {{"learning-rate", 0.001}, {"seed", 7}, {"model", "a \"name\" with ü"}};
    TrainingProgress progress_{3,
                               {{1, 256, 1e-3, 8.3178, 0.1 + 0.2, 1.0 / 3, {}},
                                {2, 512, 1e-300, 8.25, -0.0, 2, 7.5},
                                {3, 768, 0, 8, 1, 3, {}}}};
    Numbers written_{1};
    Numbers read_{2};
};

TEST_F(TrainingState, ComesBackBitForBit) {
    write();
    const TrainingProgress progress = read_training_state(path_, options_, read_.tensors());
    EXPECT_EQ(progress.step, 3);
    EXPECT_EQ(progress.points, progress_.points);
    EXPECT_TRUE(std::signbit(progress.points.at(1).gradient_norm));
    EXPECT_EQ(read_.bits(), written_.bits());
    EXPECT_THAT(directory_.names(), ElementsAre("state.safetensors"));
}

TEST_F(TrainingState, OfTheFirstStepHasNoLosses) {
    progress_ = {};
    EXPECT_FALSE(is_state_of_beginning(path_));
    write();
    EXPECT_TRUE(is_state_of_beginning(path_));
    const std::string before = read_.bits();
    EXPECT_EQ(read_training_state(path_, options_, read_.tensors()).step, 0);
    EXPECT_EQ(read_.bits(), before) << "a training begins with what its options say";
    EXPECT_LT(test::read_text(path_).size(), 1000u);
}

TEST_F(TrainingState, WithOtherOptionsIsRefusedByTheirName) {
    write();
    const std::string before = read_.bits();
    json options = options_;
    options["learning-rate"] = 0.002;
    EXPECT_EQ(usage_error(options), "--learning-rate: " + path_ + " was started with 0.001, not with 0.002");
    options = options_;
    options.erase("seed");
    EXPECT_THAT(usage_error(options), HasSubstr("--seed: " + path_ + " was started with 7, not without"));
    options = options_;
    options["warm-up"] = 100;
    EXPECT_THAT(usage_error(options), HasSubstr("--warm-up: " + path_ + " was started without, not with 100"));
    EXPECT_EQ(read_.bits(), before) << "nothing was read";
    EXPECT_EQ(usage_error(options_), "accepted");
}

TEST_F(TrainingState, OfOtherWeightsOrDataIsRefused) {
    options_["weights"] = "0123";
    options_["data"] = "4567";
    write();
    json options = options_;
    options["weights"] = "0124";
    EXPECT_EQ(usage_error(options), "--model: " + path_ + " was started from other weights");
    options = options_;
    options["data"] = "4568";
    EXPECT_THAT(usage_error(options), HasSubstr("--instructions: " + path_ + " was started with other data"));
}

TEST_F(TrainingState, BeyondTheLastStepIsRefused) {
    options_["steps"] = 3;
    write();
    EXPECT_EQ(refusal_to_read(), "accepted");
    options_["steps"] = 2;
    write();
    EXPECT_THAT(refusal_to_read(), HasSubstr("training.step is 3, must be at most 2"));
}

TEST_F(TrainingState, WithANumberThatIsNotFiniteIsNeverWritten) {
    write();
    const std::string earlier = test::read_text(path_);
    written_.moment[17] = std::numeric_limits<float>::infinity();
    EXPECT_THAT(refusal_to_write(),
                HasSubstr("not written: tensor \"weight.m\" has an element that is infinite, at 17"));
    written_.moment[17] = std::nanf("");
    EXPECT_THAT(refusal_to_write(), HasSubstr("has an element that is not a number, at 17"));
    written_.moment[17] = 0;
    progress_.points[1].validation_loss = std::nan("");
    EXPECT_THAT(refusal_to_write(), HasSubstr("not written: step 2 has among its losses what is not a number"));
    EXPECT_EQ(test::read_text(path_), earlier);
    EXPECT_THAT(directory_.names(), ElementsAre("state.safetensors"));
}

TEST_F(TrainingState, OfAnotherModelLeavesTheTensorsUntouched) {
    write();
    const std::string before = read_.bits();
    std::vector<TrainingTensor> tensors = read_.tensors();
    tensors.back().numbers = tensors.back().numbers.first(999);
    EXPECT_THAT(refusal_to_read(tensors), HasSubstr("tensor \"weight.m\" has the shape [1000], must be [999]"));
    tensors = read_.tensors();
    tensors.back().name = "weight.v";
    EXPECT_THAT(refusal_to_read(tensors), HasSubstr("tensor \"weight.v\" is missing"));
    tensors.pop_back();
    EXPECT_THAT(refusal_to_read(tensors), HasSubstr("has 3 tensors, must have 2"));
    EXPECT_EQ(read_.bits(), before);
}

TEST_F(TrainingState, AFileThatIsNoneIsRefused) {
    EXPECT_THAT(refusal_to_read(), HasSubstr("No such file"));
    const auto refusal = [&](const json& training) {
        const json header = {{"__metadata__", {{"training", training.dump()}}}};
        directory_.write("state.safetensors", test::with_header(header.dump(), ""));
        return refusal_to_read({});
    };
    const json row = {1, 2, 0.5, 3.5, 1.5, 0.25, nullptr};
    const auto with_row = [&](std::size_t i, const json& value) {
        json changed = row;
        changed[i] = value;
        return json{{"options", options_}, {"step", 1}, {"losses", {changed}}};
    };
    EXPECT_EQ(refusal(with_row(3, 4)), "accepted");
    std::vector<std::string> refused;
    for (const json& value : {json("x"), json(1.5), json(nullptr), json::array()})
        refused.push_back(refusal(with_row(0, value)));
    for (const json& value : {json("x"), json(nullptr), json(true)}) refused.push_back(refusal(with_row(3, value)));
    refused.push_back(refusal(with_row(6, "x")));
    refused.push_back(refusal(with_row(7, 1)));
    EXPECT_THAT(refused, Each(HasSubstr("which are no step's")));
    EXPECT_THAT(refusal({{"options", options_}, {"step", 1}}), HasSubstr("no list of losses"));
    EXPECT_THAT(refusal({{"options", options_}, {"step", -1}, {"losses", json::array()}}), HasSubstr("step is -1"));
    EXPECT_THAT(refusal({{"options", 1}, {"step", 0}, {"losses", json::array()}}), HasSubstr("no options"));
    EXPECT_THAT(refusal({{"step", 0}, {"losses", json::array()}}), HasSubstr("no options"));
    EXPECT_THAT(refusal({{"step", 1}, {"losses", json::array()}}), HasSubstr("step is 1, must be the number"));
    EXPECT_THAT(refusal({{"step", std::numeric_limits<Index>::max()}, {"losses", {row}}}),
                HasSubstr("must be the number"));
    EXPECT_THAT(refusal({{"step", 2}, {"losses", {row, row}}}), HasSubstr("out of order"));
    EXPECT_THAT(refusal(with_row(0, 2)), HasSubstr("out of order"));
    EXPECT_THAT(refusal(with_row(1, 0)), HasSubstr("out of order"));
    EXPECT_THAT(refusal(with_row(1, std::numeric_limits<Index>::max())), HasSubstr("out of order"));
    EXPECT_THAT(refusal(1), HasSubstr("no JSON object"));

    directory_.write("state.safetensors", test::make_safetensors({}));
    EXPECT_THAT(refusal_to_read(), HasSubstr("no state of a training"));
    write();
    const std::string whole = test::read_text(path_);
    for (std::size_t size = 0; size < whole.size(); size += 101) {
        directory_.write("state.safetensors", whole.substr(0, size));
        EXPECT_NE(refusal_to_read(), "accepted") << size << " bytes of " << whole.size();
    }
}

TEST_F(TrainingState, OfAnotherTypeIsRefused) {
    json header;
    header["__metadata__"]["training"] =
        json{{"options", options_}, {"step", 1}, {"losses", {{1, 2, 0.5, 3.5, 1.5, 0.25, nullptr}}}}.dump();
    header["bias"] = {{"dtype", "BF16"}, {"shape", {3}}, {"data_offsets", {0, 6}}};
    directory_.write("state.safetensors", test::with_header(header.dump(), std::string(6, '\0')));
    EXPECT_THAT(refusal_to_read({{"bias", read_.bias}}), HasSubstr("tensor \"bias\" is BF16, must be F32"));
}

}  // namespace
}  // namespace llama
