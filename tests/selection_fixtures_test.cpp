// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fixture_numbers.hpp"
#include "freqkv/chunked_attention.hpp"
#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/policy/window_attention.hpp"

// What each selection keeps, against what kvpress keeps of the same keys, queries and values
// (tools/selection_fixtures.py).
namespace freqkv {
namespace {

using nlohmann::json;

json fixtures() { return json::parse(std::ifstream(FREQKV_FIXTURES_DIR "/selections.json")); }

// The tokens that each head keeps of a full cache whose latest `recent` entries are not to be touched.
template <class P>
std::vector<std::vector<Index>> kept(const json& all, const json& fixture, Index recent, P (*policy)(double ratio)) {
    const Index tokens = all["tokens"], dim = all["dim"], heads = fixture["kv_heads"];
    const Index span = tokens - recent;
    const Index keep = all["keep"].get<Index>() - recent;
    test::Numbers numbers(fixture["seed"].get<std::uint64_t>());
    std::vector<double> q = numbers.draw(2 * heads * tokens * dim);
    const std::vector<double> k = numbers.draw(heads * tokens * dim);
    for (double& x : q) x *= all["query_factor"].get<double>();
    std::vector<double> out(q.size());
    SinkedKVCache<double, P> cache(
        {.kv_heads = heads, .query_heads = 2 * heads, .key_dim = dim, .capacity = tokens, .sinks = 0, .recent = recent},
        Rope<double>({.head_dim = dim, .base = all["base"], .pairing = RopePairing::half_split}, tokens),
        policy((static_cast<double>(keep) + 0.5) / static_cast<double>(span)));
    const KVView<const double> keys(k.data(), heads, tokens, dim);
    ChunkedAttention<double>().forward(KVView<const double>(q.data(), 2 * heads, tokens, dim), keys, keys, cache,
                                       KVView<double>(out.data(), 2 * heads, tokens, dim));
    cache.prepare();
    std::vector<std::vector<Index>> result;
    for (Index h = 0; h < heads; ++h) {
        result.emplace_back();
        for (Index i = 0; i < cache.size(h); ++i) result.back().push_back(cache.entry_tokens(h, i).begin);
    }
    return result;
}

TEST(Selections, KeepWhatKvpressKeeps) {
    const json all = fixtures();
    const auto expect = [&](const char* name, Index recent, auto policy) {
        const json& fixture = all["cases"][name];
        EXPECT_EQ(kept(all, fixture, recent, +policy), fixture["kept"].get<std::vector<std::vector<Index>>>()) << name;
    };
    expect("snapkv", 8, [](double ratio) { return SnapKV<8>(ratio, 5, Pooling::mean); });
    expect("tova", 1, [](double ratio) { return Tova(ratio); });
    expect("h2o", 0, [](double ratio) { return HeavyHitters(ratio); });
    expect("key-diff", 0, [](double ratio) { return KeyDiff(ratio); });
    expect("key-norm", 0, [](double ratio) { return KeyNorm(ratio); });
}

}  // namespace
}  // namespace freqkv
