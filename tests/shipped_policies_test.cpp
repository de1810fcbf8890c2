// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>

#include "freqkv/policy/block_mean.hpp"
#include "freqkv/policy/equal_weight.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"

namespace freqkv {
namespace {

using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::ModelCache;
using testing_model::Text;

TEST(LowPass, IsThePaper) {
    const Text text = Text::random(400);
    for (const Index recent : {0, 7}) {
        const CacheOptions options = cache_options(text, 48, 4, recent);
        ModelCache model(text, 48, naive::whole_span(4, recent, 0.3, &naive::Head::low_pass));
        expect_as_model(LowPass<>(0.3), options, text, model);
        expect_chunks_agree<float>(LowPass<>(0.3), options, text);
        expect_chunks_agree<Eigen::bfloat16>(LowPass<>(0.3), options, text);
    }
}

TEST(LocalWindow, KeepsTheLatest) {
    const Text text = Text::random(400);
    for (const Index recent : {0, 7}) {
        const CacheOptions options = cache_options(text, 48, 4, recent);
        ModelCache model(text, 48, naive::whole_span(4, recent, 0.3, &naive::Head::select_latest));
        expect_as_model(LocalWindow(0.3), options, text, model);
        expect_chunks_agree<float>(LocalWindow(0.3), options, text);
        expect_chunks_agree<Eigen::half>(LocalWindow(0.3), options, text);
    }
}

TEST(BlockMean, KeepsTheMeansOfNeighbours) {
    const Text text = Text::random(400);
    for (const double ratio : {0.3, 0.5}) {
        const CacheOptions options = cache_options(text, 48, 4, 7);
        ModelCache model(text, 48, naive::whole_span(4, 7, ratio, &naive::Head::block_mean));
        expect_as_model(BlockMean(ratio), options, text, model);
        expect_chunks_agree<float>(BlockMean(ratio), options, text);
        expect_chunks_agree<Eigen::bfloat16>(BlockMean(ratio), options, text);
    }
}

TEST(EqualWeightLowPass, SamplesWhatItHasAnew) {
    const Text text = Text::random(600);
    const CacheOptions options = cache_options(text, 48, 4, 7);
    ModelCache model(text, 48, [](naive::Cache& cache, const auto& full) {
        const std::size_t length = 48 - 4 - 7, kept = length / 2, came = length - kept;
        for (const std::size_t h : full) {
            naive::Head& head = cache.heads[h];
            const auto c = static_cast<double>(cache.heads[h].compressions);
            if (c == 0) {
                head.low_pass(4, length, kept);
                continue;
            }
            const double tokens = static_cast<double>(length) + c * static_cast<double>(came);
            const auto fair = std::max(1.0, std::round(static_cast<double>(kept * came) / tokens));
            const auto rows = static_cast<std::size_t>(fair);
            head.low_pass(4 + kept, came, rows);
            head.low_pass(4, kept, kept - rows);
        }
    });
    expect_as_model(EqualWeightLowPass<>(), options, text, model);
    expect_chunks_agree<float>(EqualWeightLowPass<>(), options, text);
}

TEST(Full, NeverCompresses) {
    const Text text = Text::random(250);
    ModelCache model(text, text.tokens + 1, [](naive::Cache&, const auto&) { FAIL() << "the model is never full"; });
    expect_as_model(Full{}, cache_options(text, 0, 0, 0), text, model);
    expect_chunks_agree<float>(Full{}, cache_options(text, 0, 0, 0), text);
}

}  // namespace
}  // namespace freqkv
