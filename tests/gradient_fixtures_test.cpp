// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fixture_numbers.hpp"
#include "freqkv/adjoint/chunked_attention.hpp"
#include "freqkv/policy/low_pass.hpp"

// Results and gradients of a program that shares nothing with the library: automatic differentiation by PyTorch of
// chunked attention and its compressions, in double precision (tools/gradient_fixtures.py).
using namespace freqkv;

namespace {

using test::Numbers;

const std::string directory = FREQKV_FIXTURES_DIR "/gradients";

class GradientFixture : public testing::TestWithParam<std::string> {};

std::vector<std::string> names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) names.push_back(entry.path().stem());
    std::sort(names.begin(), names.end());
    return names;
}

void expect_near(const char* what, const std::vector<double>& actual, const nlohmann::json& fixture) {
    const auto expected = fixture.get<std::vector<double>>();
    ASSERT_EQ(actual.size(), expected.size()) << what;
    double largest = 0;
    for (const double x : expected) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], 1e-8 * largest) << what << ", element " << i;
    }
}

TEST_P(GradientFixture, IsWhatAutomaticDifferentiationFinds) {
    const auto fixture = nlohmann::json::parse(std::ifstream(directory + "/" + GetParam() + ".json"));
    const auto size = [&](const char* name) { return fixture.at(name).get<Index>(); };
    const Index query_heads = size("query_heads"), kv_heads = size("kv_heads"), tokens = size("tokens");
    const Index key_dim = size("key_dim"), value_dim = size("value_dim"), capacity = size("capacity");
    const CacheOptions options{.kv_heads = kv_heads,
                               .query_heads = query_heads,
                               .key_dim = key_dim,
                               .value_dim = value_dim,
                               .capacity = capacity,
                               .sinks = size("sinks"),
                               .recent = size("recent")};
    const bool adjacent = fixture.at("pairing") == "adjacent";
    const Rope<double> rope({.head_dim = key_dim,
                             .rotated_dims = size("rotated_dims"),
                             .base = fixture.at("base").get<double>(),
                             .pairing = adjacent ? RopePairing::adjacent : RopePairing::half_split},
                            capacity);
    const LowPass<> policy(fixture.at("ratio").get<double>());

    Numbers numbers(fixture.at("seed").get<std::uint64_t>());
    const auto q = numbers.draw(query_heads * tokens * key_dim);
    const auto k = numbers.draw(kv_heads * tokens * key_dim);
    const auto v = numbers.draw(kv_heads * tokens * value_dim);
    const auto weights = numbers.draw(query_heads * tokens * value_dim);
    std::vector<double> out(weights.size()), d_q(q.size()), d_k(k.size()), d_v(v.size());
    using Const = KVView<const double>;
    using View = KVView<double>;
    const Const queries(q.data(), query_heads, tokens, key_dim);
    const Const keys(k.data(), kv_heads, tokens, key_dim);
    const Const values(v.data(), kv_heads, tokens, value_dim);
    const View results(out.data(), query_heads, tokens, value_dim);

    SinkedKVCache<double, LowPass<>> cache(options, rope, policy);
    cache.append(keys, values);
    ASSERT_EQ(cache.compressions(), size("compressions")) << "compressions in the fixture's text";
    DifferentiableAttention<double, LowPass<>> attention(options, rope, policy);
    attention.forward(queries, keys, values, results);
    attention.backward(queries, keys, values, results, Const(weights.data(), query_heads, tokens, value_dim),
                       View(d_q.data(), query_heads, tokens, key_dim), View(d_k.data(), kv_heads, tokens, key_dim),
                       View(d_v.data(), kv_heads, tokens, value_dim));
    expect_near("attention", out, fixture.at("out"));
    expect_near("gradient of queries", d_q, fixture.at("d_q"));
    expect_near("gradient of keys", d_k, fixture.at("d_k"));
    expect_near("gradient of values", d_v, fixture.at("d_v"));
}

INSTANTIATE_TEST_SUITE_P(All, GradientFixture, testing::ValuesIn(names()), [](const auto& named) {
    std::string name = named.param;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

}  // namespace
