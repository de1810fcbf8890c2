// SPDX-License-Identifier: MIT
#include "llama/formats/weights_fingerprint.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "llama/formats/hugging_face.hpp"
#include "llama/hugging_face_files.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::TestTensors;

class WeightsFingerprint : public testing::Test {
protected:
    std::uint64_t of(const TestTensors& tensors, const nlohmann::json& config = test::small_config(), int threads = 1) {
        directory_.write("config.json", config.dump());
        directory_.write("model.safetensors", test::make_safetensors(tensors));
        return fingerprint(read_hugging_face(directory_.path()), make_executor(threads));
    }

    test::TemporaryDirectory directory_;
};

TEST_F(WeightsFingerprint, OfAModelIsItsOwn) {
    const std::uint64_t original = of(test::small_model());
    EXPECT_EQ(of(test::small_model()), original);
#if defined(_OPENMP)
    EXPECT_EQ(of(test::small_model(), test::small_config(), 3), original);
#endif
    std::set<std::uint64_t> seen{original};
    // Any number of any tensor, the last bit of it, and signs, which cancel each other in weaker sums.
    const TestTensors model = test::small_model();
    for (const auto& [name, tensor] : model) {
        for (const std::size_t place : {std::size_t{0}, tensor.values.size() / 2, tensor.values.size() - 1}) {
            TestTensors changed = model;
            float& number = changed[name].values[place];
            number = std::nextafter(number, 2.0f);
            EXPECT_TRUE(seen.insert(of(changed)).second) << name << " at " << place;
        }
    }
    for (const std::size_t distance : {2UL, 16UL, 32UL}) {
        TestTensors changed = model;
        auto& numbers = changed["model.layers.0.mlp.up_proj.weight"].values;
        for (const std::size_t place : {std::size_t{1}, 1 + distance})
            numbers[place] = numbers[place] == 0 ? -0.0f : -numbers[place];
        EXPECT_TRUE(seen.insert(of(changed)).second) << "signs " << distance << " apart";
    }
    TestTensors exchanged = model;
    std::swap(exchanged["model.layers.0.mlp.up_proj.weight"], exchanged["model.layers.0.mlp.gate_proj.weight"]);
    EXPECT_TRUE(seen.insert(of(exchanged)).second);
    EXPECT_TRUE(seen.insert(of(test::small_model("BF16"))).second) << "another type of the same numbers";
    const std::map<std::string, double> settings{{"rope_theta", 20000}, {"rms_norm_eps", 1e-7}};
    for (const auto& [key, value] : settings) {
        nlohmann::json config = test::small_config();
        config[key] = value;
        EXPECT_TRUE(seen.insert(of(model, config)).second) << key;
    }
}

}  // namespace
}  // namespace llama
