// SPDX-License-Identifier: MIT
#pragma once

#include <ggml.h>
#include <llama.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "cache_tensors.hpp"
#include "freqkv/in_place.hpp"

namespace freqkv::llama {

struct BoundedOptions {
    Index sinks = 4;       ///< first tokens of a sequence, whose entries stay as they are
    Index recent = 0;      ///< latest entries, which a compression leaves as they are
    bool rollback = true;  ///< a decode() that fails leaves everything as it was, at the cost of a copy of a sequence's
                           ///< state, in time and memory, where it compresses; false: only where it does not
};

/// A context of libllama whose sequences go on when their cache is full: it is compressed in place, by what the
/// library offers to every program. Works with one cache of F32, F16, BF16, Q8_0 or Q4_0 that lies in any backend's
/// memory, with and without flash attention; one sequence, or several with a stream each (kv_unified = false).
///
///     freqkv::llama::BoundedContext context(model, params, freqkv::LowPass<>(0.5));
///     context.decode(batch);          // instead of llama_decode(ctx, batch)
///     llama_get_logits_ith(context.get(), -1);
///
/// What it needs to know, where keys and values lie and how keys are rotated, it reads from the graph that libllama
/// computes, by the evaluation callback. P is a policy of the library that needs neither queries nor attention.
/// Not to be used from two threads at once.
template <class P>
class BoundedContext {
public:
    /// Makes the context, and checks on a few tokens that keys are where and what they are taken for. Throws
    /// std::runtime_error for a model or cache that cannot be compressed, saying why, and freqkv::Error for options.
    BoundedContext(llama_model* model, llama_context_params params, P policy, const BoundedOptions& options = {})
        : options_(options),
          policy_(std::move(policy)),
          reader_(std::make_unique<CacheReader>(model, params)),
          executor_(make_executor(params.n_threads_batch)) {
        refuse_if(llama_model_is_recurrent(model) || llama_model_is_hybrid(model), "it has recurrent layers");
        refuse_if(llama_model_n_swa(model) > 0, "it has layers with a sliding window");
        refuse_if(params.n_seq_max > 1 && params.kv_unified, "sequences share one cache; set kv_unified = false");
        params.cb_eval = CacheReader::on_node;
        params.cb_eval_user_data = reader_.get();
        context_.reset(llama_init_from_model(model, params));
        if (!context_) throw std::runtime_error("libllama makes no context of this model and these parameters");
        memory_ = llama_get_memory(context_.get());
        compressions_.resize(std::max<std::size_t>(params.n_seq_max, 1));
        check_with_tokens();
        const Index capacity = llama_n_ctx_seq(context_.get());
        require(options.sinks >= 0 && options.recent >= 0 && options.sinks + options.recent + 2 <= capacity,
                "sinks + recent", options.sinks + options.recent, "must leave two entries of those of a sequence");
    }

    /// For everything of libllama but llama_decode(). The positions of a sequence are those of its entries.
    llama_context* get() const { return context_.get(); }

    /// As llama_decode(), with a return value of 1 only if no sequence is full. Tokens belong to one sequence each and
    /// are appended to it; positions in the batch are not read. A batch that meets a full cache is decoded in
    /// pieces: `decoded(first, count)` is called behind each, while the outputs of its tokens can be read; without it
    /// only those of the last piece can. If it fails or throws, all is as it was (but see BoundedOptions::rollback).
    std::int32_t decode(const llama_batch& batch, const std::function<void(std::int32_t, std::int32_t)>& decoded = {}) {
        require(batch.token != nullptr, "tokens of the batch", 0, "must be there, embeddings are not taken");
        Undo undo(*this);
        for (std::int32_t first = 0; first < batch.n_tokens;) {
            const std::int32_t count = count_fitting(batch, first);
            if (count == 0) {
                const llama_seq_id sequence = sequence_of(batch, first);
                undo.save(sequence);
                compress_rows_of(sequence);
                continue;
            }
            if (const std::int32_t failed = llama_decode(get(), piece_of(batch, first, count)); failed != 0) {
                return failed;  // and undo
            }
            if (decoded) decoded(first, count);
            first += count;
        }
        undo.commit();
        return 0;
    }

    /// Compresses a sequence now, full or not; throws freqkv::Error if there is too little of it, without change.
    void compress(llama_seq_id sequence = 0) {
        Undo undo(*this);
        undo.save(sequence);
        compress_rows_of(sequence);
        undo.commit();
    }

    /// Forgets a sequence. (What removes tokens by libllama alone leaves the count of compressions, by which some
    /// policies go.)
    void clear(llama_seq_id sequence = 0) {
        llama_memory_seq_rm(memory_, sequence, -1, -1);
        compressions_.at(static_cast<std::size_t>(sequence)) = 0;
    }

    /// A sequence as it is, to be gone back to: a copy of its entries.
    struct State {
        std::vector<std::uint8_t> bytes;
        Index compressions = 0;
    };
    State save(llama_seq_id sequence = 0) const {
        llama_synchronize(get());
        State state{std::vector<std::uint8_t>(llama_state_seq_get_size(get(), sequence)), compressions(sequence)};
        llama_state_seq_get_data(get(), state.bytes.data(), state.bytes.size(), sequence);
        return state;
    }
    /// Whether it was possible; the sequence is empty if not.
    bool restore(const State& state, llama_seq_id sequence = 0) {
        llama_synchronize(get());
        clear(sequence);
        if (llama_state_seq_set_data(get(), state.bytes.data(), state.bytes.size(), sequence) == 0) return false;
        compressions_.at(static_cast<std::size_t>(sequence)) = state.compressions;
        return true;
    }

    /// Entries of a sequence, and the most that there can be.
    Index size(llama_seq_id sequence = 0) const { return llama_memory_seq_pos_max(memory_, sequence) + Index{1}; }
    Index capacity() const { return llama_n_ctx_seq(get()); }
    Index compressions(llama_seq_id sequence = 0) const { return compressions_.at(static_cast<std::size_t>(sequence)); }
    /// Bytes of keys and values of all sequences.
    Index cache_bytes() const {
        Index bytes = 0;
        for (const CacheTensors& layer : reader_->layers()) {
            bytes += static_cast<Index>(ggml_nbytes(layer.keys.tensor) + ggml_nbytes(layer.values.tensor));
        }
        return bytes;
    }

private:
#if defined(_OPENMP)
    static OpenMPExecutor make_executor(int threads) { return OpenMPExecutor(threads); }
#else
    static SerialExecutor make_executor(int /*threads*/) { return {}; }
#endif

    struct FreeContext {
        void operator()(llama_context* context) const { llama_free(context); }
    };

    // What takes back a decode() that was not committed.
    class Undo {
    public:
        explicit Undo(BoundedContext& of) : of_(of) {
            for (std::size_t s = 0; s < of.compressions_.size(); ++s) {
                sizes_.push_back(of.size(static_cast<llama_seq_id>(s)));
            }
        }
        Undo(const Undo&) = delete;
        Undo& operator=(const Undo&) = delete;
        ~Undo() {
            if (committed_) return;
            llama_synchronize(of_.get());
            for (std::size_t s = 0; s < sizes_.size(); ++s) {
                const auto sequence = static_cast<llama_seq_id>(s);
                if (const auto saved = saved_.find(sequence); saved != saved_.end()) {
                    of_.restore(saved->second, sequence);
                }
                llama_memory_seq_rm(of_.memory_, sequence, static_cast<llama_pos>(sizes_[s]), -1);
            }
        }
        void save(llama_seq_id sequence) {
            if (of_.options_.rollback && !saved_.contains(sequence)) saved_[sequence] = of_.save(sequence);
        }
        void commit() { committed_ = true; }

    private:
        BoundedContext& of_;
        std::vector<Index> sizes_;
        std::map<llama_seq_id, State> saved_;
        bool committed_ = false;
    };

    static llama_seq_id sequence_of(const llama_batch& batch, std::int32_t token) {
        if (batch.n_seq_id == nullptr) return 0;
        require(batch.n_seq_id[token] == 1, "sequences of a token", Index{batch.n_seq_id[token]}, "must be 1");
        return batch.seq_id[token][0];
    }

    // How many tokens from `first` on there is room for, at once.
    std::int32_t count_fitting(const llama_batch& batch, std::int32_t first) const {
        std::map<llama_seq_id, Index> room;
        const auto most =
            std::min<std::int32_t>(batch.n_tokens - first, static_cast<std::int32_t>(llama_n_batch(get())));
        for (std::int32_t count = 0; count < most; ++count) {
            const llama_seq_id sequence = sequence_of(batch, first + count);
            const auto [left, is_new] = room.try_emplace(sequence, 0);
            if (is_new) left->second = capacity() - size(sequence);
            if (left->second-- == 0) return count;
        }
        return most;
    }

    static llama_batch piece_of(llama_batch batch, std::int32_t first, std::int32_t count) {
        const auto behind = [&](auto* of) { return of == nullptr ? of : of + first; };
        batch.n_tokens = count;
        batch.token = behind(batch.token);
        batch.embd = nullptr;
        batch.pos = nullptr;  // libllama counts them
        batch.n_seq_id = behind(batch.n_seq_id);
        batch.seq_id = behind(batch.seq_id);
        batch.logits = behind(batch.logits);
        return batch;
    }

    void compress_rows_of(llama_seq_id sequence) {
        llama_synchronize(get());
        const Index before = size(sequence);
        Index after = 0;
        for (const CacheTensors& layer : reader_->layers()) {
            const Index kept = compress_layer(layer, sequence, before);
            if (after != 0 && kept != after) throw std::logic_error("a policy that keeps more in some layers");
            after = kept;
        }
        llama_memory_seq_rm(memory_, sequence, static_cast<llama_pos>(after), -1);
        ++compressions_.at(static_cast<std::size_t>(sequence));
    }

    Index compress_layer(const CacheTensors& layer, llama_seq_id sequence, Index tokens) {
        const InPlaceOptions options{.sinks = options_.sinks,
                                     .recent = options_.recent,
                                     .compressions = compressions(sequence),
                                     .layer = layer.number};
        Index kept = 0;
        with_rows(layer.keys, layer.kv_heads, sequence, tokens, [&](const auto& keys) {
            with_rows(layer.values, layer.kv_heads, sequence, tokens,
                      [&](const auto& values) { kept = compress_rows(layer, keys, values, options); });
        });
        return kept;
    }

    template <class K, class V>
    Index compress_rows(const CacheTensors& layer, const K& keys, const V& values, const InPlaceOptions& options) {
        if constexpr (std::is_same_v<K, V> && requires { keys.dim_stride; }) {
            using T = std::remove_pointer_t<decltype(keys.data)>;
            return compressor<T>(layer).compress(keys, values, options, executor_);
        } else if constexpr (requires { compressor<float>(layer).compress(keys, values, options, executor_); }) {
            return compressor<float>(layer).compress(keys, values, options, executor_);
        } else {
            throw std::runtime_error("keys and values are in two types of which none is quantised");
        }
    }

    template <class T>
    InPlaceCompressor<T, P>& compressor(const CacheTensors& layer) {
        auto& made = std::get<std::map<bool, InPlaceCompressor<T, P>>>(compressors_);
        const auto found = made.find(layer.rope.has_value());
        if (found != made.end()) return found->second;
        std::optional<Rope<float>> rope;
        if (layer.rope) rope.emplace(*layer.rope, capacity());
        return made.try_emplace(layer.rope.has_value(), policy_, std::move(rope)).first->second;
    }

    // In the first layer keys of the same token differ by their rotation alone.
    void check_with_tokens() {
        constexpr std::int32_t count = 8;
        std::vector<llama_token> tokens(count, 0);
        refuse_if(llama_decode(get(), llama_batch_get_one(tokens.data(), count)) != 0, "it decodes no tokens");
        llama_synchronize(get());
        reader_->finish();
        const CacheTensors& first = reader_->layers().front();
        with_rows(first.keys, first.kv_heads, 0, count, [&](const auto& keys) {
            refuse_if(!differ_by_rotation(first, keys, count), "its keys are not what its graph says");
        });
        llama_memory_seq_rm(memory_, 0, -1, -1);
    }

    BoundedOptions options_;
    P policy_;
    std::unique_ptr<CacheReader> reader_;  // whose address the context has
    std::unique_ptr<llama_context, FreeContext> context_;
    llama_memory_t memory_ = nullptr;
    std::vector<Index> compressions_;  // [sequences]
    std::tuple<std::map<bool, InPlaceCompressor<float, P>>, std::map<bool, InPlaceCompressor<Half, P>>,
               std::map<bool, InPlaceCompressor<BFloat16, P>>>
        compressors_;  // by whether keys are rotated
    decltype(make_executor(1)) executor_;
};

}  // namespace freqkv::llama
