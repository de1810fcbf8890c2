// SPDX-License-Identifier: MIT
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "cuda/device_tests.cuh"
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/whole_span.hpp"
#include "naive_cache.hpp"

// The cache and attention on a device.
namespace freqkv::cuda {
namespace {

constexpr Index kv_heads = 2;
constexpr Index query_heads = 6;
constexpr Index key_dim = 8;
constexpr Index value_dim = 12;
constexpr Index capacity = 150;  // more than a stretch of attention
constexpr Index sinks = 3;
constexpr Index recent = 20;

const CacheOptions options{.sequences = 3,
                           .kv_heads = kv_heads,
                           .query_heads = query_heads,
                           .key_dim = key_dim,
                           .value_dim = value_dim,
                           .capacity = capacity,
                           .sinks = sinks,
                           .recent = recent};
const RopeOptions rope_options{
    .head_dim = key_dim, .rotated_dims = 6, .base = 5000, .pairing = RopePairing::half_split};
const naive::Rotary rotary{6, 5000, false};

// A text: queries, keys and values of its tokens, token-major, on the host.
struct Text {
    explicit Text(Index tokens_, unsigned seed)
        : tokens(tokens_),
          q(query_heads, tokens, key_dim, seed),
          k(kv_heads, tokens, key_dim, seed + 100),
          v(kv_heads, tokens, value_dim, seed + 200) {}

    Index tokens;
    naive::RandomTokens<float> q, k, v;
};

// Some tokens of several texts, one after another, on the device.
struct Call {
    Call(const std::vector<Text>& texts, const std::vector<SequenceTokens>& parts_, const std::vector<Index>& first)
        : parts(parts_) {
        for (const SequenceTokens& part : parts) tokens += part.tokens;
        q = gather(texts, first, query_heads, key_dim, [](const Text& text) { return text.q.view(); });
        k = gather(texts, first, kv_heads, key_dim, [](const Text& text) { return text.k.view(); });
        v = gather(texts, first, kv_heads, value_dim, [](const Text& text) { return text.v.view(); });
        out = DeviceArray<float>(std::max<Index>(1, tokens) * query_heads * value_dim);
    }

    KVView<const float> queries() const { return view(q, query_heads, key_dim); }
    KVView<const float> keys() const { return view(k, kv_heads, key_dim); }
    KVView<const float> values() const { return view(v, kv_heads, value_dim); }
    KVView<float> results() const {
        return KVView<float>::token_major(out.data(), query_heads, std::max<Index>(1, tokens), value_dim);
    }

    std::vector<SequenceTokens> parts;
    Index tokens = 0;
    DeviceArray<float> q, k, v, out;

private:
    template <class F>
    DeviceArray<float> gather(const std::vector<Text>& texts, const std::vector<Index>& first, Index heads, Index dim,
                              const F& view_of) const {
        std::vector<float> values;
        for (const SequenceTokens& part : parts) {
            const KVView<const float> from = view_of(texts[static_cast<std::size_t>(part.sequence)]);
            for (Index t = 0; t < part.tokens; ++t) {
                for (Index h = 0; h < heads; ++h) {
                    for (Index d = 0; d < dim; ++d) {
                        values.push_back(from.head(h)(first[static_cast<std::size_t>(part.sequence)] + t, d));
                    }
                }
            }
        }
        return DeviceArray<float>(values);
    }

    KVView<const float> view(const DeviceArray<float>& array, Index heads, Index dim) const {
        return KVView<const float>::token_major(array.data(), heads, tokens, dim);
    }
};

std::vector<Text> three_texts() {
    std::vector<Text> texts;
    texts.emplace_back(500, 1);
    texts.emplace_back(90, 2);
    texts.emplace_back(310, 3);
    return texts;
}

// Feeds the texts to sequences of a cache, `chunk(sequence)` tokens of each at a time; returns the results of
// each sequence's tokens, [tokens][query_heads * value_dim].
template <class T, class P, class F>
std::vector<std::vector<float>> feed(SinkedKVCache<T, P>& cache, const std::vector<Text>& texts, const F& chunk) {
    ChunkedAttention<float> attention;
    std::vector<Index> done(texts.size(), 0);
    std::vector<std::vector<float>> results(texts.size());
    while (true) {
        std::vector<SequenceTokens> parts;
        for (std::size_t s = 0; s < texts.size(); ++s) {
            const Index count = std::min(chunk(static_cast<Index>(s)), texts[s].tokens - done[s]);
            if (count > 0) parts.push_back({static_cast<Index>(s), count});
        }
        if (parts.empty()) break;
        const Call call(texts, parts, done);
        attention.forward(call.queries(), call.keys(), call.values(), cache, call.results(), parts);
        const std::vector<float> out = call.out.download();
        std::size_t at = 0;
        for (const SequenceTokens& part : parts) {
            const auto count = static_cast<std::size_t>(part.tokens * query_heads * value_dim);
            std::vector<float>& of = results[static_cast<std::size_t>(part.sequence)];
            of.insert(of.end(), out.begin() + static_cast<std::ptrdiff_t>(at),
                      out.begin() + static_cast<std::ptrdiff_t>(at + count));
            at += count;
            done[static_cast<std::size_t>(part.sequence)] += part.tokens;
        }
    }
    return results;
}

template <class T>
bool same(const SavedSequence<T>& a, const SavedSequence<T>& b) {
    return a.size == b.size && a.tokens_seen == b.tokens_seen && a.compressions == b.compressions &&
           a.compressed_at == b.compressed_at && a.keys.size() == b.keys.size() && a.values.size() == b.values.size() &&
           (a.size == 0 || (std::memcmp(a.keys.data(), b.keys.data(), a.keys.size() * sizeof(T)) == 0 &&
                            std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(T)) == 0));
}

template <class T>
class DeviceCache : public testing::Test {};
TYPED_TEST_SUITE(DeviceCache, ElementTypes, ElementNames);

// Feeds three texts, and compares with the cache as the method describes it.
template <class T, class P>
void expect_the_method(SinkedKVCache<T, P>& cache, const naive::Rotary& rotary, double ratio,
                       naive::CompressSpan compress) {
    const std::vector<Text> texts = three_texts();
    const auto results = feed(cache, texts, [](Index sequence) { return 37 + 20 * sequence; });
    const CacheOptions& shape = cache.options();
    // Of the largest entry: rounding at each compression and when a key is turned.
    const double tolerance = std::is_same_v<T, float> ? 1e-5 : 20 * rounding<T>;
    for (Index s = 0; s < 3; ++s) {
        const Text& text = texts[static_cast<std::size_t>(s)];
        const SavedSequence<T> saved = cache.save(s);
        EXPECT_EQ(saved.tokens_seen, text.tokens);
        for (Index h = 0; h < kv_heads; ++h) {
            naive::Cache cache_of_head(1, shape.capacity, rotary,
                                       naive::whole_span(shape.sinks, shape.recent, ratio, compress));
            const naive::Head& expected = cache_of_head.heads[0];
            double largest_error = 0;
            for (Index t = 0; t < text.tokens; ++t) {
                cache_of_head.append({naive::row(text.k.view().head(h), t)}, {naive::row(text.v.view().head(h), t)});
                for (Index g = 0; g < query_heads / kv_heads; ++g) {
                    const Index head = h * (query_heads / kv_heads) + g;
                    const naive::Row want = cache_of_head.attended(0, naive::row(text.q.view().head(head), t),
                                                                   1 / std::sqrt(static_cast<double>(key_dim)));
                    for (Index d = 0; d < value_dim; ++d) {
                        const float have = results[static_cast<std::size_t>(s)]
                                                  [static_cast<std::size_t>((t * query_heads + head) * value_dim + d)];
                        largest_error = std::max(
                            largest_error, std::abs(static_cast<double>(have) - want[static_cast<std::size_t>(d)]));
                    }
                }
            }
            EXPECT_LT(largest_error, 3 * tolerance) << "attention of sequence " << s << ", KV head " << h;
            ASSERT_EQ(saved.size, static_cast<Index>(expected.size()));
            EXPECT_EQ(saved.compressions, expected.compressions);
            for (Index e = 0; e < saved.size; ++e) {
                const naive::Row key =
                    cache_of_head.rotated(expected.keys[static_cast<std::size_t>(e)], static_cast<std::size_t>(e));
                for (Index d = 0; d < key_dim; ++d) {
                    const T have = saved.keys[static_cast<std::size_t>((h * saved.size + e) * key_dim + d)];
                    ASSERT_NEAR(static_cast<double>(static_cast<float>(have)), key[static_cast<std::size_t>(d)],
                                3 * tolerance)
                        << "key " << e << " of sequence " << s;
                }
                for (Index d = 0; d < value_dim; ++d) {
                    const T have = saved.values[static_cast<std::size_t>((h * saved.size + e) * value_dim + d)];
                    ASSERT_NEAR(static_cast<double>(static_cast<float>(have)),
                                expected.values[static_cast<std::size_t>(e)][static_cast<std::size_t>(d)],
                                3 * tolerance)
                        << "value " << e << " of sequence " << s;
                }
            }
        }
    }
}

TYPED_TEST(DeviceCache, HoldsAndAttendsAsTheMethodSays) {
    SinkedKVCache<TypeParam> cache(options, Rope(rope_options));
    expect_the_method(cache, rotary, 0.5, &naive::Head::low_pass);
}

TYPED_TEST(DeviceCache, ForgetsAllButALocalWindow) {
    using T = TypeParam;
    struct Rotation {
        const char* name;
        std::optional<RopeOptions> rope;
        naive::Rotary rotary;
    };
    for (const Rotation& rotation :
         {Rotation{"split", rope_options, rotary},
          {"adjacent", RopeOptions{.head_dim = key_dim, .base = 300, .pairing = RopePairing::adjacent}, {8, 300, true}},
          {"before RoPE", std::nullopt, {}}}) {
        for (const auto& [ratio, latest] : {std::pair<double, Index>{0.5, recent}, {0.05, 0}, {0.97, 1}}) {
            SCOPED_TRACE(std::string(rotation.name) + ", ratio " + std::to_string(ratio));
            SinkedKVCache<T, LocalWindow> cache(with(options, &CacheOptions::recent, latest),
                                                rotation.rope ? std::optional<Rope>(*rotation.rope) : std::nullopt,
                                                LocalWindow(ratio));
            expect_the_method(cache, rotation.rotary, ratio, &naive::Head::select_latest);
            EXPECT_EQ(cache.memory().tables, 0) << "nothing is transformed";
        }
    }
}

TYPED_TEST(DeviceCache, HoldsAllThatItHasRoomForUnderFull) {
    SinkedKVCache<TypeParam, Full> cache(with(options, &CacheOptions::capacity, Index{500}), Rope(rope_options));
    expect_the_method(cache, rotary, 0.5, &naive::Head::low_pass);
    EXPECT_EQ(cache.room(0), 0);
    EXPECT_EQ(cache.compressions(0), 0);
}

// P's cache of these options, fed in three ways and each text by itself.
template <class T, class P>
void expect_chunks_and_batches_change_no_bit(const CacheOptions& options) {
    const std::vector<Text> texts = three_texts();
    std::vector<std::vector<float>> first;
    std::vector<SavedSequence<T>> entries;
    const auto chunks = {+[](Index) { return Index{1000}; }, +[](Index) { return Index{1}; },
                         +[](Index s) { return 1 + 61 * s; }};
    for (const auto& chunk : chunks) {
        SinkedKVCache<T, P> cache(options, Rope(rope_options));
        const auto results = feed(cache, texts, chunk);
        for (Index s = 0; s < 3; ++s) {
            if (first.empty()) {
                entries.push_back(cache.save(s));
            } else {
                EXPECT_TRUE(same(cache.save(s), entries[static_cast<std::size_t>(s)])) << "sequence " << s;
            }
        }
        if (first.empty()) first = results;
        EXPECT_EQ(results, first);
    }
    for (std::size_t s = 0; s < 3; ++s) {
        CacheOptions one = options;
        one.sequences = 1;
        SinkedKVCache<T, P> cache(one, Rope(rope_options));
        EXPECT_EQ(feed(cache, std::vector<Text>{texts[s]}, [](Index) { return Index{64}; }).front(), first[s])
            << "sequence " << s << " alone";
        EXPECT_TRUE(same(cache.save(0), entries[s]));
    }
}

TYPED_TEST(DeviceCache, ChunksAndBatchesChangeNoBit) {
    expect_chunks_and_batches_change_no_bit<TypeParam, WholeSpan>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, LocalWindow>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, Full>(with(options, &CacheOptions::capacity, Index{500}));
}

TYPED_TEST(DeviceCache, AppendsWithoutAttention) {
    using T = TypeParam;
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<T> attended(options, Rope(rope_options));
    (void)feed(attended, texts, [](Index) { return Index{50}; });
    SinkedKVCache<T> cache(options, Rope(rope_options));
    const Call call(texts, {{2, 310}, {0, 500}, {1, 90}}, {0, 0, 0});
    cache.append(call.keys(), call.values(), call.parts);
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(cache.save(s), attended.save(s))) << "sequence " << s;
}

TYPED_TEST(DeviceCache, GoesOnFromACopyATruncationAndASavedState) {
    using T = TypeParam;
    std::vector<Text> texts = three_texts();
    SinkedKVCache<T> cache(options, Rope(rope_options));
    const auto append = [&](Index sequence, Index first, Index count) {
        // Every sequence gets the first text.
        std::vector<Text> same_text{texts[0], texts[0], texts[0]};
        const Call call(same_text, {{sequence, count}}, {first, first, first});
        cache.append(call.keys(), call.values(), call.parts);
    };
    append(0, 0, 240);
    const SavedSequence<T> at_240 = cache.save(0);
    cache.fork(0, 1);
    EXPECT_TRUE(same(cache.save(1), at_240));
    append(0, 240, 130);
    const SavedSequence<T> at_370 = cache.save(0);
    EXPECT_TRUE(same(cache.save(1), at_240)) << "the copy does not go along";
    append(1, 240, 130);
    EXPECT_TRUE(same(cache.save(1), at_370));

    cache.load(2, at_240);
    EXPECT_TRUE(same(cache.save(2), at_240));
    append(2, 240, 10);
    cache.truncate(2, 240);
    EXPECT_TRUE(same(cache.save(2), at_240));
    append(2, 240, 130);
    EXPECT_TRUE(same(cache.save(2), at_370));

    cache.clear(2);
    EXPECT_EQ(cache.size(2), 0);
    EXPECT_EQ(cache.tokens_seen(2), 0);
    append(2, 0, 240);
    EXPECT_TRUE(same(cache.save(2), at_240));

    const std::vector<std::int32_t> sizes{static_cast<std::int32_t>(cache.size(0)),
                                          static_cast<std::int32_t>(cache.size(1)),
                                          static_cast<std::int32_t>(cache.size(2))};
    std::vector<std::int32_t> on_device(3);
    check("cudaMemcpy", cudaMemcpy(on_device.data(), cache.device_sizes(), 12, cudaMemcpyDeviceToHost));
    EXPECT_EQ(on_device, sizes);
}

TYPED_TEST(DeviceCache, PreparesInIdleTime) {
    using T = TypeParam;
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<T> cache(options, Rope(rope_options));
    SinkedKVCache<T> prepared(options, Rope(rope_options));
    const Call full(texts, {{0, capacity}, {2, capacity - 1}}, {0, 0, 0});
    const Call next(texts, {{0, 1}, {2, 1}}, {capacity, 0, capacity - 1});
    for (SinkedKVCache<T>* each : {&cache, &prepared}) each->append(full.keys(), full.values(), full.parts);
    EXPECT_EQ(prepared.room(0), 0);
    prepared.prepare(std::vector<Index>{0, 1, 2});
    EXPECT_EQ(prepared.size(0), sinks + (capacity - sinks - recent) / 2 + recent);
    EXPECT_EQ(prepared.size(2), capacity - 1) << "not full";
    for (SinkedKVCache<T>* each : {&cache, &prepared}) each->append(next.keys(), next.values(), next.parts);
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(cache.save(s), prepared.save(s)));
}

TEST(DeviceAttention, TakesEverySizeOfGroup) {
    for (const Index group : {1, 2, 3, 4, 5, 8, 9}) {
        for (const auto& [keys_dim, values_dim] : {std::pair<Index, Index>{8, 4}, {6, 5}}) {
            SCOPED_TRACE(std::to_string(group) + " query heads for a KV head, " + std::to_string(keys_dim) + " and " +
                         std::to_string(values_dim) + " dimensions");
            const Index tokens = 140;
            SinkedKVCache<float> cache({.kv_heads = 1,
                                        .query_heads = group,
                                        .key_dim = keys_dim,
                                        .value_dim = values_dim,
                                        .capacity = tokens});
            naive::RandomTokens<float> q(group, tokens, keys_dim, 5);
            naive::RandomTokens<float> k(1, tokens, keys_dim, 6);
            naive::RandomTokens<float> v(1, tokens, values_dim, 7);
            const auto upload = [](const KVView<const float>& view) {
                return DeviceArray<float>(std::span<const float>(
                    view.data, static_cast<std::size_t>(view.heads * view.tokens * view.head_dim)));
            };
            const DeviceArray<float> queries = upload(std::as_const(q).view());
            const DeviceArray<float> keys = upload(std::as_const(k).view());
            const DeviceArray<float> values = upload(std::as_const(v).view());
            const DeviceArray<float> out(group * tokens * values_dim);
            const SequenceTokens part{0, tokens};
            ChunkedAttention<float>(0.7).forward(
                KVView<const float>::token_major(queries.data(), group, tokens, keys_dim),
                KVView<const float>::token_major(keys.data(), 1, tokens, keys_dim),
                KVView<const float>::token_major(values.data(), 1, tokens, values_dim), cache,
                KVView<float>::token_major(out.data(), group, tokens, values_dim),
                std::span<const SequenceTokens>(&part, 1));
            const std::vector<float> results = out.download();
            naive::Cache expected(1, tokens, {}, nullptr);
            for (Index t = 0; t < tokens; ++t) {
                expected.append({naive::row(std::as_const(k).view().head(0), t)},
                                {naive::row(std::as_const(v).view().head(0), t)});
                for (Index h = 0; h < group; ++h) {
                    const naive::Row want = expected.attended(0, naive::row(std::as_const(q).view().head(h), t), 0.7);
                    for (Index d = 0; d < values_dim; ++d) {
                        ASSERT_NEAR(
                            static_cast<double>(results[static_cast<std::size_t>((t * group + h) * values_dim + d)]),
                            want[static_cast<std::size_t>(d)], 1e-5)
                            << "token " << t << ", head " << h;
                    }
                }
            }
        }
    }
}

TEST(DeviceAttention, IsCapturedInAGraph) {
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<__half> cache(options, Rope(rope_options));
    SinkedKVCache<__half> captured(options, Rope(rope_options));
    ChunkedAttention<float> attention;
    const Call prompt(texts, {{0, 100}, {2, 30}}, {0, 0, 0});
    for (SinkedKVCache<__half>* each : {&cache, &captured}) {
        attention.forward(prompt.queries(), prompt.keys(), prompt.values(), *each, prompt.results(), prompt.parts);
    }
    attention.reserve(captured, 2);
    const std::vector<SequenceTokens> step{{0, 1}, {2, 1}};
    Call input(texts, step, {100, 0, 30});
    cudaStream_t stream = nullptr;
    check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    attention.forward(input.queries(), input.keys(), input.values(), captured, input.results(), step, stream);
    cudaGraph_t graph = nullptr;
    check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t steps = nullptr;
    check("cudaGraphInstantiate", cudaGraphInstantiate(&steps, graph, 0));
    for (Index t = 0; t < 5; ++t) {
        const Call call(texts, step, {100 + t, 0, 30 + t});
        attention.forward(call.queries(), call.keys(), call.values(), cache, call.results(), step);
        const std::vector<float> want = call.out.download();
        for (const auto& [from, to] : {std::pair{&call.q, &input.q}, {&call.k, &input.k}, {&call.v, &input.v}}) {
            check("cudaMemcpy", cudaMemcpy(to->data(), from->data(), static_cast<std::size_t>(from->size()) * 4,
                                           cudaMemcpyDeviceToDevice));
        }
        check("cudaDeviceSynchronize", cudaDeviceSynchronize());
        if (t > 0) captured.replayed(step);  // the first launch is the call that was captured
        check("cudaGraphLaunch", cudaGraphLaunch(steps, stream));
        EXPECT_EQ(input.out.download(stream), want) << "step " << t;
    }
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(captured.save(s, stream), cache.save(s))) << "sequence " << s;
    check("cudaGraphExecDestroy", cudaGraphExecDestroy(steps));
    check("cudaGraphDestroy", cudaGraphDestroy(graph));
    check("cudaStreamDestroy", cudaStreamDestroy(stream));
}

TEST(DeviceAttention, RefusesABoundaryInAGraph) {
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<float> cache(options, Rope(rope_options));
    const Call full(texts, {{0, capacity}}, {0, 0, 0});
    cache.append(full.keys(), full.values(), full.parts);
    const Call next(texts, {{0, 1}}, {capacity, 0, 0});
    const Call longer(texts, {{2, capacity + 1}}, {0, 0, 0});
    ChunkedAttention<float> attention;
    attention.reserve(cache, 1);
    cudaStream_t stream = nullptr;
    check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT_THAT(
        [&] {
            attention.forward(next.queries(), next.keys(), next.values(), cache, next.results(), next.parts, stream);
        },
        refuses("tokens of sequence 0 is 1, must be within its room, which is 0, and must not be met while a stream is "
                "captured"));
    EXPECT_THAT([&] { cache.prepare(std::vector<Index>{1, 0}, stream); },
                refuses("room of a sequence is 0, must not be met while a stream is captured"));
    // A boundary that is met by the last tokens only.
    EXPECT_THAT([&] { cache.append(longer.keys(), longer.values(), longer.parts, stream); },
                refuses("tokens of sequence 2 is 151, must be within its room, which is 150, and must not be met"));
    cudaGraph_t graph = nullptr;
    check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
    check("cudaGraphDestroy", cudaGraphDestroy(graph));
    check("cudaStreamDestroy", cudaStreamDestroy(stream));
    EXPECT_EQ(cache.size(0), capacity);
    EXPECT_EQ(cache.size(2), 0);
    EXPECT_EQ(message_of([&] { cache.replayed(next.parts); }),
              "freqkv: tokens of sequence 0 is 1, must be within its room, which is 0");
    EXPECT_EQ(
        message_of([&] { cache.replayed(std::vector<SequenceTokens>{{1, Index{1} << 62}, {2, Index{1} << 62}}); }),
        "freqkv: tokens of a sequence is 4611686018427387904, must be 0 to 2^31 - 1");
    EXPECT_EQ(message_of([&] { cache.replayed(std::vector<SequenceTokens>{{1, 100}, {1, 100}}); }),
              "freqkv: sequence is 1, must not be in one call twice");
}

TEST(DeviceCacheErrors, NameWhatIsWrongAndChangeNothing) {
    const auto refused = [](CacheOptions changed) { return message_of([&] { SinkedKVCache<float>{changed}; }); };
    EXPECT_EQ(refused(with(options, &CacheOptions::sequences, Index{0})),
              "freqkv: sequences is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(refused(with(options, &CacheOptions::kv_heads, Index{0})), "freqkv: kv_heads is 0, must be at least 1");
    EXPECT_EQ(refused(with(options, &CacheOptions::query_heads, Index{5})),
              "freqkv: query_heads is 5, must be a multiple of kv_heads");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{24})),
              "freqkv: capacity is 24, must be at least sinks + recent + 2");
    EXPECT_EQ(message_of([] { SinkedKVCache<float>(options, Rope({.head_dim = 10})); }),
              "freqkv: head_dim of the rope is 10, must be key_dim of the cache");

    const std::vector<Text> texts = three_texts();
    SinkedKVCache<float> cache(options, Rope(rope_options));
    ChunkedAttention<float> attention;
    const Call call(texts, {{0, 5}, {2, 4}}, {0, 0, 0});
    const auto verdict = [&](std::vector<SequenceTokens> parts) {
        return message_of(
            [&] { attention.forward(call.queries(), call.keys(), call.values(), cache, call.results(), parts); });
    };
    EXPECT_EQ(verdict({{0, 5}, {3, 4}}), "freqkv: sequence is 3, must be one of the cache's");
    EXPECT_EQ(verdict({{0, 5}, {0, 4}}), "freqkv: sequence is 0, must not be in one call twice");
    EXPECT_EQ(verdict({{0, 5}, {2, 3}}),
              "freqkv: tokens of all sequences is 8, must be those of the views, which are 9");
    EXPECT_EQ(verdict({{0, 10}, {2, -1}}), "freqkv: tokens of a sequence is -1, must be 0 to 2^31 - 1");
    EXPECT_EQ(message_of([&] {
                  attention.forward(call.queries(), call.keys(), call.values(), cache,
                                    KVView<float>::token_major(call.q.data(), query_heads, 9, value_dim), call.parts);
              }),
              "freqkv: overlap is out with q, must not be");
    EXPECT_THAT(message_of([&] {
                    attention.forward(call.keys(), call.keys(), call.values(), cache, call.results(), call.parts);
                }),
                testing::HasSubstr("heads of q is 2, must be query_heads of the cache"));
    EXPECT_THAT(message_of([] { ChunkedAttention<float>(-1); }), testing::HasSubstr("scale is -1"));
    EXPECT_EQ(message_of([&] {
                  attention.forward(KVView<const float>(nullptr, query_heads, 0, key_dim),
                                    KVView<const float>(nullptr, kv_heads, 0, key_dim),
                                    KVView<const float>(nullptr, kv_heads, 0, value_dim), cache,
                                    KVView<float>(nullptr, query_heads, 0, value_dim), {});
              }),
              "accepted")
        << "nothing to do";
    for (Index s = 0; s < 3; ++s) EXPECT_EQ(cache.tokens_seen(s), 0);
    EXPECT_EQ(verdict({{0, 5}, {2, 4}}), "accepted");
    EXPECT_THAT(message_of([&] { cache.truncate(0, 6); }), testing::HasSubstr("tokens to keep is 6"));
    EXPECT_THAT(message_of([&] { cache.fork(0, 0); }), testing::HasSubstr("sequence to copy to is 0"));
    SavedSequence<float> saved = cache.save(0);
    saved.keys.pop_back();
    EXPECT_THAT(message_of([&] { cache.load(1, saved); }), testing::HasSubstr("elements of the saved sequence is 79"));
    saved = cache.save(0);
    saved.size = capacity + 1;
    EXPECT_THAT(message_of([&] { cache.load(1, saved); }), testing::HasSubstr("must be within the capacity"));
    EXPECT_EQ(cache.size(1), 0);
}

TEST(DeviceCacheErrors, WhatLaunchesAndCopiesCannotCountIsRefused) {
    const auto refused = [](CacheOptions changed) { return message_of([&] { SinkedKVCache<float, Full>{changed}; }); };
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{0})), "freqkv: capacity is 0, must be at least 1");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{1} << 31)),
              "freqkv: capacity is 2147483648, must be below 2^31");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{1} << 26)),
              "freqkv: capacity is 67108864, must be at most 67108863, for a head of such key_dim may take 2 GiB");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{1} << 30)),
              "freqkv: capacity is 1073741824, must be at most 67108863, for a head of such key_dim may take 2 GiB");
    EXPECT_EQ(refused(with(options, &CacheOptions::value_dim, (Index{1} << 20) + 1)),
              "freqkv: value_dim is 1048577, must be at most 2^20");
    CacheOptions wide = options;
    wide.query_heads = wide.kv_heads = Index{1} << 11;
    wide.value_dim = Index{1} << 20;
    EXPECT_EQ(refused(wide), "freqkv: kv_heads is 2048, times value_dim must be below 2^31");
    wide.kv_heads = (Index{1} << 20) + 1;
    EXPECT_EQ(refused(wide), "freqkv: kv_heads is 1048577, must be at most 2^20");
    EXPECT_EQ(
        message_of([&] { SinkedKVCache<float, LocalWindow>(with(options, &CacheOptions::sinks, (Index{1} << 62))); }),
        "freqkv: capacity is 150, must be at least sinks + recent + 2");
}

// More rows than a launch has blocks for in one direction.
TEST(DeviceCacheSizes, AppendsMillionsOfTokensAtOnce) {
    constexpr Index tokens = 65535 * 64 + 100;
    SinkedKVCache<float, Full> cache({.kv_heads = 1, .key_dim = 1, .capacity = tokens});
    std::vector<float> rows(tokens);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
    const DeviceArray<float> memory(rows);
    const KVView<const float> view = KVView<const float>::token_major(memory.data(), 1, tokens, 1);
    cache.append(view, view, std::vector<SequenceTokens>{{0, tokens}});
    EXPECT_TRUE(cache.save(0).keys == rows);
}

TEST(DeviceCacheErrors, BeyondItsRoomUnderFullNothingChanges) {
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<float, Full> cache(options, Rope(rope_options));
    const Call first(texts, {{0, 100}, {2, 40}}, {0, 0, 0});
    cache.append(first.keys(), first.values(), first.parts);
    std::vector<SavedSequence<float>> before;
    for (Index s = 0; s < 3; ++s) before.push_back(cache.save(s));
    ChunkedAttention<float> attention;
    const Call next(texts, {{2, 60}, {0, 51}}, {100, 0, 40});
    const std::string reason = "freqkv: tokens of sequence 0 is 51, must be within its room, which is 50";
    EXPECT_EQ(message_of([&] { cache.append(next.keys(), next.values(), next.parts); }), reason);
    EXPECT_EQ(message_of([&] {
                  attention.forward(next.queries(), next.keys(), next.values(), cache, next.results(), next.parts);
              }),
              reason);
    EXPECT_EQ(message_of([&] { cache.replayed(next.parts); }), reason);
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(cache.save(s), before[static_cast<std::size_t>(s)])) << s;

    const Call last(texts, {{2, 60}, {0, 50}}, {100, 0, 40});
    cache.append(last.keys(), last.values(), last.parts);
    cache.prepare(std::vector<Index>{0, 1, 2});
    EXPECT_EQ(cache.size(0), capacity) << "there is nothing to prepare";
    EXPECT_EQ(cache.size(2), 100);
    EXPECT_EQ(cache.memory().tables, 0);
}

// A capacity beyond what one transform takes.
TEST(DeviceCacheSizes, OnlyTransformsBoundTheCapacity) {
    const CacheOptions large{.kv_heads = 1, .key_dim = 2, .capacity = 40000};
    EXPECT_THAT([&] { SinkedKVCache<float>{large}; }, refuses("n is 39996, must be 1 to 16384 on a device"));
    std::vector<float> rows;
    for (Index t = 0; t < 40001; ++t) rows.insert(rows.end(), {static_cast<float>(t), 0.5F});
    const DeviceArray<float> memory(rows);
    const auto append = [&](auto& cache, Index tokens) {
        const KVView<const float> view = KVView<const float>::token_major(memory.data(), 1, tokens, 2);
        cache.append(view, view, std::vector<SequenceTokens>{{0, tokens}});
    };
    SinkedKVCache<float, Full> full(large);
    append(full, 40000);
    EXPECT_EQ(full.size(0), 40000);
    SinkedKVCache<float, LocalWindow> window(large);
    append(window, 40001);
    const SavedSequence<float> saved = window.save(0);
    ASSERT_EQ(saved.size, 4 + 39996 / 2 + 1);
    for (Index e = 0; e < saved.size; ++e) {
        ASSERT_EQ(saved.values[static_cast<std::size_t>(2 * e)], static_cast<float>(e < 4 ? e : e + 39996 / 2));
    }
}

TEST(DeviceCacheErrors, OutOfMemoryIsOneErrorAndNoHarm) {
    CacheOptions huge = options;
    huge.sequences = Index{1} << 20;
    huge.capacity = 8192;
    EXPECT_THROW(SinkedKVCache<float>{huge}, CudaError);
    SinkedKVCache<float> cache(options);
    EXPECT_EQ(cache.memory().keys, 3 * kv_heads * capacity * key_dim * 4);
    EXPECT_EQ(cache.memory().values, 3 * kv_heads * capacity * value_dim * 4);
    EXPECT_GT(cache.memory().tables, 0);
}

}  // namespace
}  // namespace freqkv::cuda
