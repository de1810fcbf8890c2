// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/error.hpp"
#include "freqkv/view.hpp"
#include "llama/config.hpp"
#include "llama/file.hpp"

namespace llama {

static_assert(std::endian::native == std::endian::little, "checkpoints are little-endian and used in place");

/// A weight matrix [outputs, inputs], row-major, in the mapped file.
using Weights = freqkv::MatrixView<const float>;

/// The weights of one transformer block.
struct LayerWeights {
    const float* attention_norm;  ///< [dim]
    Weights wq;                   ///< [heads * head_dim, dim]
    Weights wk;                   ///< [kv_heads * head_dim, dim]
    Weights wv;                   ///< [kv_heads * head_dim, dim]
    Weights wo;                   ///< [dim, heads * head_dim]
    const float* ffn_norm;        ///< [dim]
    Weights gate;                 ///< w1, [hidden, dim]
    Weights down;                 ///< w2, [dim, hidden]
    Weights up;                   ///< w3, [hidden, dim]
};

/// A llama2.c checkpoint in float32, mapped read-only; the weights are views into the map. Two formats:
///
/// - legacy: 7 int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len), then the
///   embedding, the layers' weights kind by kind, the last norm, and two rotary tables that nobody
///   reads; a classifier follows if vocab_size is negative.
/// - version 1: "ak42" as an int32, the version, the same 7 int32, one byte that says whether the
///   classifier is the embedding, zeros up to 256 bytes, then all norms before all matrices.
///
/// Both are exact: the file must be as long as its header says.
class Checkpoint {
public:
    /// Throws FileError naming what is wrong with the file.
    explicit Checkpoint(const std::string& path) : path_(path), file_(path) {
        std::int32_t magic = 0;
        read_header(&magic, 0, 1);
        magic == 0x616b3432 ? read_version_1() : read_legacy();
    }

    const std::string& path() const { return path_; }
    const char* format() const { return legacy_ ? "llama2.c legacy, float32" : "llama2.c version 1, float32"; }
    const Config& config() const { return config_; }
    Weights embedding() const { return embedding_; }    ///< [vocabulary, dim]
    const float* final_norm() const { return norm_; }   ///< [dim]
    Weights classifier() const { return classifier_; }  ///< [vocabulary, dim]
    const LayerWeights& layer(Index l) const { return layers_[static_cast<std::size_t>(l)]; }

    /// Trained numbers: all weights, a shared classifier once.
    Index parameters() const { return parameters_; }

private:
    void read_header(std::int32_t* values, std::size_t first, std::size_t count) const {
        const std::span<const std::byte> bytes = file_.bytes();
        if ((first + count) * sizeof(std::int32_t) > bytes.size()) {
            throw FileError(path_, "the file ends inside the header, after " + std::to_string(bytes.size()) + " bytes");
        }
        std::memcpy(values, bytes.data() + first * sizeof(std::int32_t), count * sizeof(std::int32_t));
    }

    void read_sizes(std::size_t first) {
        std::int32_t sizes[7];
        read_header(sizes, first, 7);
        config_ = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], false};
    }

    void read_legacy() {
        legacy_ = true;
        read_sizes(0);
        config_.shared_classifier = config_.vocabulary > 0;
        config_.vocabulary = config_.shared_classifier ? config_.vocabulary : -config_.vocabulary;
        check_config(config_, path_);
        // The tables hold context * head_dim / 2 cosines and as many sines.
        const Index tables = freqkv::checked_product("rotary tables", config_.context, config_.head_dim());
        check_size(28, tables);
        Reader reader{floats(28)};
        embedding_ = reader.matrix(config_.vocabulary, config_.dim);
        read_norms(reader, &LayerWeights::attention_norm);
        read_attention(reader);
        read_norms(reader, &LayerWeights::ffn_norm);
        read_feed_forward(reader);
        norm_ = reader.take(config_.dim);
        reader.take(tables);
        classifier_ = config_.shared_classifier ? embedding_ : reader.matrix(config_.vocabulary, config_.dim);
    }

    void read_version_1() {
        constexpr std::size_t header_bytes = 256;
        std::int32_t header[header_bytes / sizeof(std::int32_t)];
        read_header(header, 0, std::size(header));
        if (header[1] != 1) {
            throw FileError(path_, "version " + std::to_string(header[1]) +
                                       " of the format is not supported (float32 only: legacy and version 1)");
        }
        read_sizes(2);
        const int shared = std::to_integer<int>(file_.bytes()[36]);
        if (shared > 1) {
            throw FileError(
                path_, "the header's shared-classifier flag is " + std::to_string(shared) + ", which must be 0 or 1");
        }
        config_.shared_classifier = shared == 1;
        check_config(config_, path_);
        check_size(header_bytes, 0);
        Reader reader{floats(header_bytes)};
        read_norms(reader, &LayerWeights::attention_norm);
        read_norms(reader, &LayerWeights::ffn_norm);
        norm_ = reader.take(config_.dim);
        embedding_ = reader.matrix(config_.vocabulary, config_.dim);
        read_attention(reader);
        read_feed_forward(reader);
        classifier_ = config_.shared_classifier ? embedding_ : reader.matrix(config_.vocabulary, config_.dim);
    }

    // Counts the parameters and compares the file's size with them, before anything is allocated.
    void check_size(std::size_t header_bytes, Index extra_floats) {
        const Config& c = config_;
        const auto product = [](auto... counts) { return freqkv::checked_product("number of weights", counts...); };
        parameters_ = product(c.shared_classifier ? 1 : 2, c.vocabulary, c.dim) +  // embedding, classifier
                      product(c.layers, 2, c.dim) + c.dim +                        // norms
                      product(c.layers, c.dim, 2 * c.dim + 2 * c.kv_dim()) +       // wq, wo; wk, wv
                      product(c.layers, 3, c.hidden, c.dim);                       // gate, down, up
        const Index expected =
            static_cast<Index>(header_bytes) + product(parameters_ + extra_floats, Index{sizeof(float)});
        const auto actual = static_cast<Index>(file_.bytes().size());
        if (actual != expected) {
            throw FileError(path_, std::string(actual < expected ? "truncated" : "too long") +
                                       ": the header asks for " + std::to_string(expected) + " bytes, the file has " +
                                       std::to_string(actual));
        }
        layers_.resize(static_cast<std::size_t>(c.layers));
    }

    // Cuts the weights off in the order of the file.
    struct Reader {
        const float* at;

        const float* take(Index count) { return std::exchange(at, at + count); }
        Weights matrix(Index rows, Index columns) { return {take(rows * columns), rows, columns}; }
    };

    const float* floats(std::size_t offset) const {
        return reinterpret_cast<const float*>(file_.bytes().data() + offset);
    }

    void read_norms(Reader& reader, const float* LayerWeights::* norm) {
        for (LayerWeights& layer : layers_) layer.*norm = reader.take(config_.dim);
    }

    void read_matrices(Reader& reader, Weights LayerWeights::* matrix, Index rows, Index columns) {
        for (LayerWeights& layer : layers_) layer.*matrix = reader.matrix(rows, columns);
    }

    void read_attention(Reader& reader) {
        read_matrices(reader, &LayerWeights::wq, config_.dim, config_.dim);
        read_matrices(reader, &LayerWeights::wk, config_.kv_dim(), config_.dim);
        read_matrices(reader, &LayerWeights::wv, config_.kv_dim(), config_.dim);
        read_matrices(reader, &LayerWeights::wo, config_.dim, config_.dim);
    }

    void read_feed_forward(Reader& reader) {
        read_matrices(reader, &LayerWeights::gate, config_.hidden, config_.dim);
        read_matrices(reader, &LayerWeights::down, config_.dim, config_.hidden);
        read_matrices(reader, &LayerWeights::up, config_.hidden, config_.dim);
    }

    std::string path_;
    MappedFile file_;
    Config config_;
    bool legacy_ = false;
    Index parameters_ = 0;
    Weights embedding_, classifier_;
    const float* norm_ = nullptr;
    std::vector<LayerWeights> layers_;
};

}  // namespace llama
