// SPDX-License-Identifier: MIT
#include "llama/formats/llama2c_checkpoint.hpp"

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "freqkv/error.hpp"

namespace llama {

namespace {

class Llama2cReader {
public:
    explicit Llama2cReader(const std::string& path) {
        checkpoint_.path = path;
        bytes_ = checkpoint_.files.emplace_back(path).bytes();
    }

    Checkpoint read() && {
        std::int32_t magic = 0;
        read_header(&magic, 0, 1);
        magic == 0x616b3432 ? read_version_1() : read_legacy();
        return std::move(checkpoint_);
    }

private:
    // Cuts the weights off in the order of the file.
    struct Cutter {
        const float* at;

        const float* take(Index count) { return std::exchange(at, at + count); }
        Weights matrix(Index rows, Index columns) { return weights(take(rows * columns), rows, columns); }
    };

    void read_header(std::int32_t* values, std::size_t first, std::size_t count) const {
        if ((first + count) * sizeof(std::int32_t) > bytes_.size()) {
            fail("the file ends inside the header, after " + std::to_string(bytes_.size()) + " bytes");
        }
        std::memcpy(values, bytes_.data() + first * sizeof(std::int32_t), count * sizeof(std::int32_t));
    }

    void read_sizes(std::size_t first) {
        std::int32_t sizes[7];
        read_header(sizes, first, 7);
        Config& c = config();
        c.dim = sizes[0];
        c.hidden = sizes[1];
        c.layers = sizes[2];
        c.heads = sizes[3];
        c.kv_heads = sizes[4];
        c.vocabulary = sizes[5];
        c.context = sizes[6];
    }

    void read_legacy() {
        checkpoint_.format = "llama2.c legacy, F32";
        read_sizes(0);
        Config& c = config();
        c.shared_classifier = c.vocabulary > 0;
        c.vocabulary = c.shared_classifier ? c.vocabulary : -c.vocabulary;
        complete_llama2c_config(config(), checkpoint_.path);
        // The tables hold context * head_dim / 2 cosines and as many sines.
        const Index tables = freqkv::checked_product("rotary tables", c.context, c.head_dim);
        check_size(28, tables);
        Cutter cutter{floats(28)};
        checkpoint_.embedding = cutter.matrix(c.vocabulary, c.dim);
        read_norms(cutter, &LayerWeights::attention_norm);
        read_attention(cutter);
        read_norms(cutter, &LayerWeights::ffn_norm);
        read_feed_forward(cutter);
        checkpoint_.final_norm = cutter.take(c.dim);
        cutter.take(tables);
        read_classifier(cutter);
    }

    void read_version_1() {
        constexpr std::size_t header_bytes = 256;
        std::int32_t header[header_bytes / sizeof(std::int32_t)];
        read_header(header, 0, std::size(header));
        if (header[1] != 1) {
            fail("version " + std::to_string(header[1]) +
                 " of the format is not supported (float32 only: legacy and version 1)");
        }
        checkpoint_.format = "llama2.c version 1, F32";
        read_sizes(2);
        const int shared = std::to_integer<int>(bytes_[36]);
        if (shared > 1) {
            fail("the header's shared-classifier flag is " + std::to_string(shared) + ", which must be 0 or 1");
        }
        config().shared_classifier = shared == 1;
        complete_llama2c_config(config(), checkpoint_.path);
        check_size(header_bytes, 0);
        Cutter cutter{floats(header_bytes)};
        read_norms(cutter, &LayerWeights::attention_norm);
        read_norms(cutter, &LayerWeights::ffn_norm);
        checkpoint_.final_norm = cutter.take(config().dim);
        checkpoint_.embedding = cutter.matrix(config().vocabulary, config().dim);
        read_attention(cutter);
        read_feed_forward(cutter);
        read_classifier(cutter);
    }

    // Compares the file's size with the weights, before anything is allocated.
    void check_size(std::size_t header_bytes, Index extra_floats) {
        const Index count = count_parameters(config()) + extra_floats;
        const Index expected = static_cast<Index>(header_bytes) +
                               freqkv::checked_product("size of the weights", count, Index{sizeof(float)});
        const auto actual = static_cast<Index>(bytes_.size());
        if (actual != expected) {
            fail(std::string(actual < expected ? "truncated" : "too long") + ": the header asks for " +
                 std::to_string(expected) + " bytes, the file has " + std::to_string(actual));
        }
        checkpoint_.layers.resize(static_cast<std::size_t>(config().layers));
    }

    const float* floats(std::size_t offset) const { return reinterpret_cast<const float*>(bytes_.data() + offset); }

    void read_norms(Cutter& cutter, const float* LayerWeights::* norm) {
        for (LayerWeights& layer : checkpoint_.layers) layer.*norm = cutter.take(config().dim);
    }

    void read_matrices(Cutter& cutter, Weights LayerWeights::* matrix, Index rows, Index columns) {
        for (LayerWeights& layer : checkpoint_.layers) layer.*matrix = cutter.matrix(rows, columns);
    }

    void read_attention(Cutter& cutter) {
        const Config& c = config();
        read_matrices(cutter, &LayerWeights::wq, c.query_dim(), c.dim);
        read_matrices(cutter, &LayerWeights::wk, c.kv_dim(), c.dim);
        read_matrices(cutter, &LayerWeights::wv, c.kv_dim(), c.dim);
        read_matrices(cutter, &LayerWeights::wo, c.dim, c.query_dim());
    }

    void read_feed_forward(Cutter& cutter) {
        const Config& c = config();
        read_matrices(cutter, &LayerWeights::gate, c.hidden, c.dim);
        read_matrices(cutter, &LayerWeights::down, c.dim, c.hidden);
        read_matrices(cutter, &LayerWeights::up, c.hidden, c.dim);
    }

    void read_classifier(Cutter& cutter) {
        checkpoint_.classifier =
            config().shared_classifier ? checkpoint_.embedding : cutter.matrix(config().vocabulary, config().dim);
    }

    [[noreturn]] void fail(const std::string& reason) const { throw FileError(checkpoint_.path, reason); }

    Config& config() { return checkpoint_.config; }
    const Config& config() const { return checkpoint_.config; }

    Checkpoint checkpoint_;
    std::span<const std::byte> bytes_;
};

}  // namespace

void complete_llama2c_config(Config& config, const std::string& path) {
    config.head_dim = config.heads > 0 ? config.dim / config.heads : 0;
    check_config(config, path);
    if (config.query_dim() != config.dim) {
        throw FileError(path, "dim is " + std::to_string(config.dim) + ", must be a multiple of n_heads, which is " +
                                  std::to_string(config.heads));
    }
}

Checkpoint read_llama2c(const std::string& path) { return Llama2cReader(path).read(); }

}  // namespace llama
