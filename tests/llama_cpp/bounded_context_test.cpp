// SPDX-License-Identifier: MIT
#include "freqkv_llama.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/temporary_directory.hpp"

// An unmodified libllama with models of random numbers; the reference Llama computes the same.
namespace freqkv::llama {
namespace {

using ::llama::test::GgufModelOptions;
using ::llama::test::TemporaryDirectory;
using testing::HasSubstr;

constexpr Index cells = 256;
using Tokens = std::vector<llama_token>;
using Logits = std::vector<float>;

struct FreeModel {
    void operator()(llama_model* model) const { llama_model_free(model); }
};
struct FreeContext {
    void operator()(llama_context* context) const { llama_free(context); }
};
using ModelPointer = std::unique_ptr<llama_model, FreeModel>;
using ContextPointer = std::unique_ptr<llama_context, FreeContext>;

class BoundedContextTest : public testing::Test {
protected:
    static void SetUpTestSuite() {
        llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    }

    BoundedContextTest() {
        GgufModelOptions options;
        options.dim = 128, options.heads = 2, options.kv_heads = 1, options.hidden = 64, options.vocabulary = 40;
        path_ = directory_.write("model.gguf", ::llama::test::small_gguf(options).bytes());
        model_.reset(llama_model_load_from_file(path_.c_str(), llama_model_default_params()));
    }

    void SetUp() override { ASSERT_NE(model_, nullptr) << "libllama does not load a model of random numbers"; }

    static llama_context_params params(ggml_type type = GGML_TYPE_F32, bool flash_attention = true) {
        llama_context_params params = llama_context_default_params();
        params.n_ctx = cells;
        params.n_batch = params.n_ubatch = 64;
        params.n_threads = params.n_threads_batch = 1;
        params.type_k = params.type_v = type;
        params.flash_attn_type = flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        return params;
    }

    static Tokens tokens(int count) {
        Tokens ids;
        for (int i = 0; i < count; ++i) ids.push_back((i * i + 7 * i) % 40);
        return ids;
    }

    template <class P>
    static std::int32_t feed(BoundedContext<P>& context, Tokens ids) {
        return context.decode(llama_batch_get_one(ids.data(), static_cast<std::int32_t>(ids.size())));
    }

    static Logits latest(llama_context* context) {
        const float* const row = llama_get_logits_ith(context, -1);
        return {row, row + 40};
    }

    // After `ids`, of the reference Llama.
    template <class T, class P>
    Logits expected(const Tokens& ids, const P& policy, Index recent) const {
        const ::llama::Checkpoint checkpoint = ::llama::read_gguf(path_);
        ::llama::CacheSizes sizes;
        sizes.capacity = cells;
        sizes.recent = recent;
        ::llama::Llama<T, P, ::llama::ThreadExecutor> model(checkpoint, sizes, policy, ::llama::make_executor(1));
        model.forward(ids);
        const auto logits = model.logits();
        return {logits.begin(), logits.end()};
    }

    static double distance(const Logits& a, const Logits& b) {
        double difference = 0, square = 0;
        for (std::size_t i = 0; i < a.size(); ++i) {
            difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
            square += std::pow(static_cast<double>(b[i]), 2);
        }
        return std::sqrt(difference / square);
    }

    TemporaryDirectory directory_;
    std::string path_;
    ModelPointer model_;
};

TEST_F(BoundedContextTest, ReadsTextsBeyondItsCellsLikeTheReferenceLlama) {
    const Tokens ids = tokens(900);
    const auto check = [&](const auto& policy, Index recent) {
        BoundedContext context(model_.get(), params(GGML_TYPE_F32, false), policy, {.recent = recent});
        ASSERT_EQ(feed(context, ids), 0);
        EXPECT_GT(context.compressions(), 4);
        const Logits logits = expected<float>(ids, policy, recent);
        EXPECT_LT(distance(latest(context.get()), logits), 1e-3);
    };
    check(LowPass<>(0.5), 0);
    check(LowPass<>(0.25), 64);
    check(LocalWindow(0.5), 0);
    check(KeyDiff(0.75), 32);
}

TEST_F(BoundedContextTest, EveryTypeAndLayoutOfACacheIsUnderstood) {
    const Tokens ids = tokens(600);
    const Logits exact = expected<float>(ids, LowPass<>(0.5), 0);
    struct Case {
        ggml_type type;
        bool flash_attention;
        double tolerance;
    };
    for (const auto& [type, flash_attention, tolerance] :
         {Case{GGML_TYPE_F32, false, 1e-3}, Case{GGML_TYPE_F16, true, 1e-2}, Case{GGML_TYPE_F16, false, 1e-2},
          Case{GGML_TYPE_BF16, true, 3e-2}, Case{GGML_TYPE_Q8_0, true, 3e-2}, Case{GGML_TYPE_Q4_0, true, 0.3}}) {
        BoundedContext context(model_.get(), params(type, flash_attention), LowPass<>(0.5));
        ASSERT_EQ(feed(context, ids), 0);
        EXPECT_LT(distance(latest(context.get()), exact), tolerance) << ggml_type_name(type) << ' ' << flash_attention;
    }
    llama_context_params mixed = params(GGML_TYPE_F16);
    mixed.type_k = GGML_TYPE_Q8_0;
    BoundedContext context(model_.get(), mixed, LowPass<>(0.5));
    ASSERT_EQ(feed(context, ids), 0);
    EXPECT_LT(distance(latest(context.get()), exact), 3e-2) << "keys quantised, values not";
}

TEST_F(BoundedContextTest, HowTheTextIsCutDoesNotMatter) {
    const Tokens ids = tokens(700);
    BoundedContext whole(model_.get(), params(), LowPass<>(0.5));
    ASSERT_EQ(feed(whole, ids), 0);
    BoundedContext pieces(model_.get(), params(), LowPass<>(0.5));
    int seen = 0;
    for (std::size_t first = 0, count = 1; first < ids.size(); first += count, count = count % 40 + 3) {
        Tokens some(ids.begin() + static_cast<std::ptrdiff_t>(first),
                    ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), first + count)));
        llama_batch batch = llama_batch_get_one(some.data(), static_cast<std::int32_t>(some.size()));
        ASSERT_EQ(pieces.decode(batch, [&](std::int32_t, std::int32_t n) { seen += n; }), 0);
    }
    EXPECT_EQ(seen, 700);
    EXPECT_EQ(pieces.size(), whole.size());
    EXPECT_EQ(pieces.compressions(), whole.compressions());
    EXPECT_LT(distance(latest(pieces.get()), latest(whole.get())), 1e-3);
}

TEST_F(BoundedContextTest, AWindowIsLibllamasOwnContextShift) {
    const Tokens ids = tokens(600);
    BoundedContext window(model_.get(), params(), LocalWindow(0.5));
    ASSERT_EQ(feed(window, ids), 0);

    const ContextPointer context(llama_init_from_model(model_.get(), params()));
    const llama_memory_t memory = llama_get_memory(context.get());
    constexpr llama_pos sinks = 4;
    for (llama_token id : ids) {
        if (llama_memory_seq_pos_max(memory, 0) + 1 == cells) {
            constexpr llama_pos dropped = (cells - sinks) / 2;
            llama_memory_seq_rm(memory, 0, sinks, sinks + dropped);
            llama_memory_seq_add(memory, 0, sinks + dropped, -1, -dropped);
        }
        ASSERT_EQ(llama_decode(context.get(), llama_batch_get_one(&id, 1)), 0);
    }
    EXPECT_LT(distance(latest(window.get()), latest(context.get())), 1e-3);
}

TEST_F(BoundedContextTest, SequencesDoNotTouchEachOther) {
    llama_context_params two = params();
    two.n_ctx = 2 * cells;
    two.n_seq_max = 2;
    BoundedContext context(model_.get(), two, LowPass<>(0.5));
    EXPECT_EQ(context.capacity(), cells);
    // Of the first one every token, of the second every third.
    Tokens ids, first, second;
    std::vector<llama_seq_id> sequences;
    for (int i = 0; i < 900; ++i) {
        const bool other = i % 3 == 2;
        ids.push_back(other ? (5 * i) % 40 : (i * i) % 40);
        sequences.push_back(other ? 1 : 0);
        (other ? second : first).push_back(ids.back());
    }
    std::vector<std::int32_t> ones(ids.size(), 1);
    std::vector<llama_seq_id*> of;
    for (llama_seq_id& sequence : sequences) of.push_back(&sequence);
    llama_batch batch{};
    batch.n_tokens = static_cast<std::int32_t>(ids.size());
    batch.token = ids.data();
    batch.n_seq_id = ones.data();
    batch.seq_id = of.data();
    ASSERT_EQ(context.decode(batch), 0);
    EXPECT_GT(context.compressions(0), context.compressions(1));
    EXPECT_GT(context.compressions(1), 0);

    // One further token of each is what tells.
    const Logits after_second = expected<float>(second, LowPass<>(0.5), 0);
    EXPECT_LT(distance(latest(context.get()), after_second), 1e-2) << "the last token is the second sequence's";
    llama_token next = 3;
    ASSERT_EQ(context.decode(llama_batch_get_one(&next, 1)), 0);
    first.push_back(next);
    EXPECT_LT(distance(latest(context.get()), expected<float>(first, LowPass<>(0.5), 0)), 1e-2);
}

TEST_F(BoundedContextTest, AFailedDecodeLeavesAllAsItWas) {
    std::atomic<int> left = 1 << 30;  // calls until it is aborted
    llama_context_params abortable = params();
    abortable.abort_callback_data = &left;
    abortable.abort_callback = [](void* data) { return --*static_cast<std::atomic<int>*>(data) < 0; };
    const Tokens before = tokens(300), failing(200, 9), after = tokens(5);
    BoundedContext context(model_.get(), abortable, LowPass<>(0.5));
    ASSERT_EQ(feed(context, before), 0);
    ASSERT_EQ(feed(context, after), 0);
    const Logits expected = latest(context.get());

    int aborted = 0;
    const auto check = [&](const auto& fail) {
        BoundedContext again(model_.get(), abortable, LowPass<>(0.5));
        ASSERT_EQ(feed(again, before), 0);
        const Index size = again.size(), compressions = again.compressions();
        if (!fail(again)) return;
        ++aborted;
        EXPECT_EQ(again.size(), size);
        EXPECT_EQ(again.compressions(), compressions);
        ASSERT_EQ(feed(again, after), 0);
        EXPECT_LT(distance(latest(again.get()), expected), 1e-5);
    };
    // In the first piece, and behind a compression.
    for (const int calls : {3, 40, 90, 150}) {
        check([&](auto& again) {
            left = calls;
            const std::int32_t failed = feed(again, failing);
            left = 1 << 30;
            return failed != 0;
        });
    }
    EXPECT_GE(aborted, 2);
    for (const std::int32_t last : {10, 100, 250}) {
        check([&](auto& again) {
            Tokens many(400, 9);
            const auto refuse = [&](std::int32_t first, std::int32_t count) {
                if (first + count > last) throw std::runtime_error("enough");
            };
            EXPECT_THROW(again.decode(llama_batch_get_one(many.data(), 400), refuse), std::runtime_error);
            return true;
        });
    }
}

TEST_F(BoundedContextTest, AStateIsGoneBackToWithItsCompressions) {
    BoundedContext context(model_.get(), params(), LowPass<>(0.5));
    ASSERT_EQ(feed(context, tokens(300)), 0);
    const auto state = context.save();
    ASSERT_EQ(feed(context, tokens(200)), 0);
    const Logits expected = latest(context.get());
    const Index size = context.size(), compressions = context.compressions();
    context.clear();
    EXPECT_EQ(context.size(), 0);
    EXPECT_EQ(context.compressions(), 0);
    ASSERT_TRUE(context.restore(state));
    ASSERT_EQ(feed(context, tokens(200)), 0);
    EXPECT_EQ(context.size(), size);
    EXPECT_EQ(context.compressions(), compressions);
    EXPECT_LT(distance(latest(context.get()), expected), 1e-5);
}

TEST_F(BoundedContextTest, WhatCannotBeCompressedIsRefusedByName) {
    const auto refusal = [&](const llama_context_params& of) -> std::string {
        try {
            const BoundedContext context(model_.get(), of, LowPass<>(0.5));
        } catch (const std::exception& error) {
            return error.what();
        }
        return "accepted";
    };
    EXPECT_EQ(refusal(params()), "accepted");
    EXPECT_THAT(refusal(params(GGML_TYPE_Q5_0)), HasSubstr("it is in q5_0; F32, F16, BF16, Q8_0 and Q4_0"));
    llama_context_params shared = params();
    shared.n_seq_max = 2;
    shared.kv_unified = true;
    EXPECT_THAT(refusal(shared), HasSubstr("sequences share one cache; set kv_unified = false"));
    EXPECT_THROW(BoundedContext(model_.get(), params(), LowPass<>(0.5), {.sinks = 200, .recent = 55}), freqkv::Error);
}

TEST_F(BoundedContextTest, TheProgramsOwnCallbackIsStillCalled) {
    int asked = 0;
    llama_context_params watched = params();
    watched.cb_eval_user_data = &asked;
    watched.cb_eval = [](ggml_tensor*, bool ask, void* data) {
        *static_cast<int*>(data) += ask ? 1 : 0;
        return !ask;
    };
    BoundedContext context(model_.get(), watched, LowPass<>(0.5));
    const int at_start = asked;
    ASSERT_EQ(feed(context, tokens(10)), 0);
    EXPECT_GT(asked, at_start);
}

}  // namespace
}  // namespace freqkv::llama
