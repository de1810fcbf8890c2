// SPDX-License-Identifier: MIT
#include "llama/formats/llama2c_checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "llama/formats/random_checkpoint.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::TemporaryDirectory;
using testing::AllOf;
using testing::HasSubstr;

using Sizes = std::vector<std::int32_t>;

// dim 8, hidden 12, 2 layers, 4 heads, 2 KV heads, vocabulary 5, context 6
const Sizes small{8, 12, 2, 4, 2, 5, 6};
constexpr Index embedding = 5 * 8;
constexpr Index norms = 2 * 8;
constexpr Index square = 2 * 8 * 8;  // wq, wo
constexpr Index narrow = 2 * 4 * 8;  // wk, wv
constexpr Index wide = 2 * 12 * 8;   // gate, down, up
constexpr Index tables = 6 * 2;
constexpr Index shared_parameters = embedding + 2 * norms + 8 + 2 * square + 2 * narrow + 3 * wide;

template <class Value>
std::string bytes_of(const Value* values, std::size_t count) {
    return {reinterpret_cast<const char*>(values), count * sizeof(Value)};
}

std::string header(const Sizes& sizes) { return bytes_of(sizes.data(), sizes.size()); }

std::string version_1_header(const Sizes& sizes, char shared, std::int32_t version = 1) {
    const std::int32_t front[] = {0x616b3432, version};
    std::string bytes = bytes_of(front, 2) + header(sizes) + shared;
    bytes.resize(256, '\0');
    return bytes;
}

// 0, 1, 2, ...: each weight says where in the file it stands.
std::string counting(Index count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    return bytes_of(values.data(), values.size());
}

float element(Weights matrix, Index row, Index column) {
    return reinterpret_cast<const float*>(matrix.row(row))[column];
}

// A matrix that begins at weight `first` of the file and is dense.
void expect_matrix(Weights matrix, Index rows, Index columns, Index first, const char* name) {
    EXPECT_EQ(matrix.rows, rows) << name;
    EXPECT_EQ(matrix.columns, columns) << name;
    EXPECT_EQ(element(matrix, 0, 0), static_cast<float>(first)) << name;
    EXPECT_EQ(element(matrix, rows - 1, columns - 1), static_cast<float>(first + rows * columns - 1)) << name;
    EXPECT_EQ(element(matrix, 1, 0), static_cast<float>(first + columns)) << name;
}

// Where the kinds of weights begin, for one layer.
struct Offsets {
    Index embedding, attention_norm, wq, wk, wv, wo, ffn_norm, gate, down, up, final_norm, classifier;
};

void expect_weights(const Checkpoint& checkpoint, const Offsets& at) {
    expect_matrix(checkpoint.embedding, 5, 8, at.embedding, "embedding");
    expect_matrix(checkpoint.classifier, 5, 8, at.classifier, "classifier");
    EXPECT_EQ(checkpoint.final_norm[7], static_cast<float>(at.final_norm + 7));
    for (Index l = 0; l < 2; ++l) {
        const LayerWeights& layer = checkpoint.layers[static_cast<std::size_t>(l)];
        EXPECT_EQ(layer.attention_norm[3], static_cast<float>(at.attention_norm + l * 8 + 3));
        EXPECT_EQ(layer.ffn_norm[3], static_cast<float>(at.ffn_norm + l * 8 + 3));
        expect_matrix(layer.wq, 8, 8, at.wq + l * 64, "wq");
        expect_matrix(layer.wk, 4, 8, at.wk + l * 32, "wk");
        expect_matrix(layer.wv, 4, 8, at.wv + l * 32, "wv");
        expect_matrix(layer.wo, 8, 8, at.wo + l * 64, "wo");
        expect_matrix(layer.gate, 12, 8, at.gate + l * 96, "gate");
        expect_matrix(layer.down, 8, 12, at.down + l * 96, "down");
        expect_matrix(layer.up, 12, 8, at.up + l * 96, "up");
    }
}

Offsets legacy_offsets(bool shared) {
    Offsets at{};
    at.embedding = 0;
    at.attention_norm = embedding;
    at.wq = at.attention_norm + norms;
    at.wk = at.wq + square;
    at.wv = at.wk + narrow;
    at.wo = at.wv + narrow;
    at.ffn_norm = at.wo + square;
    at.gate = at.ffn_norm + norms;
    at.down = at.gate + wide;
    at.up = at.down + wide;
    at.final_norm = at.up + wide;
    at.classifier = shared ? 0 : at.final_norm + 8 + tables;
    return at;
}

Offsets version_1_offsets(bool shared) {
    Offsets at{};
    at.attention_norm = 0;
    at.ffn_norm = norms;
    at.final_norm = 2 * norms;
    at.embedding = 2 * norms + 8;
    at.wq = at.embedding + embedding;
    at.wk = at.wq + square;
    at.wv = at.wk + narrow;
    at.wo = at.wv + narrow;
    at.gate = at.wo + square;
    at.down = at.gate + wide;
    at.up = at.down + wide;
    at.classifier = shared ? at.embedding : at.up + wide;
    return at;
}

void expect_config(const Config& config, bool shared) {
    EXPECT_EQ(config.dim, 8);
    EXPECT_EQ(config.hidden, 12);
    EXPECT_EQ(config.layers, 2);
    EXPECT_EQ(config.heads, 4);
    EXPECT_EQ(config.kv_heads, 2);
    EXPECT_EQ(config.vocabulary, 5);
    EXPECT_EQ(config.context, 6);
    EXPECT_EQ(config.shared_classifier, shared);
    EXPECT_EQ(config.head_dim, 2);
    EXPECT_EQ(config.kv_dim(), 4);
}

class CheckpointTest : public testing::Test {
protected:
    // The message with which a file of this content is refused; it begins with the file's path.
    std::string refusal(const std::string& content) const { return refusal_of(directory_.write("bad.bin", content)); }

    static std::string refusal_of(const std::string& path) {
        try {
            const Checkpoint checkpoint = read_llama2c(path);
        } catch (const FileError& error) {
            const std::string message = error.what();
            EXPECT_THAT(message, testing::StartsWith(path + ": "));
            return message;
        }
        ADD_FAILURE() << "accepted";
        return {};
    }

    TemporaryDirectory directory_;
};

TEST_F(CheckpointTest, ReadsLegacyWithSharedClassifier) {
    const Checkpoint checkpoint =
        read_llama2c(directory_.write("m.bin", header(small) + counting(shared_parameters + tables)));
    expect_config(checkpoint.config, true);
    expect_weights(checkpoint, legacy_offsets(true));
    EXPECT_EQ(count_parameters(checkpoint.config), shared_parameters);
    EXPECT_EQ(checkpoint.classifier.data, checkpoint.embedding.data);
}

TEST_F(CheckpointTest, ReadsLegacyWithItsOwnClassifier) {
    Sizes sizes = small;
    sizes[5] = -5;
    const Checkpoint checkpoint =
        read_llama2c(directory_.write("m.bin", header(sizes) + counting(shared_parameters + tables + embedding)));
    expect_config(checkpoint.config, false);
    expect_weights(checkpoint, legacy_offsets(false));
    EXPECT_EQ(count_parameters(checkpoint.config), shared_parameters + embedding);
}

TEST_F(CheckpointTest, ReadsVersion1WithSharedClassifier) {
    const Checkpoint checkpoint =
        read_llama2c(directory_.write("m.bin", version_1_header(small, 1) + counting(shared_parameters)));
    expect_config(checkpoint.config, true);
    expect_weights(checkpoint, version_1_offsets(true));
    EXPECT_EQ(count_parameters(checkpoint.config), shared_parameters);
}

TEST_F(CheckpointTest, ReadsVersion1WithItsOwnClassifier) {
    const Checkpoint checkpoint =
        read_llama2c(directory_.write("m.bin", version_1_header(small, 0) + counting(shared_parameters + embedding)));
    expect_config(checkpoint.config, false);
    expect_weights(checkpoint, version_1_offsets(false));
    EXPECT_EQ(count_parameters(checkpoint.config), shared_parameters + embedding);
}

TEST_F(CheckpointTest, ReadsWhatTheRandomCheckpointWrites) {
    for (const bool shared : {false, true}) {
        for (const auto format : {CheckpointFormat::legacy, CheckpointFormat::version_1}) {
            Config config{.dim = 8,
                          .hidden = 12,
                          .layers = 2,
                          .heads = 4,
                          .kv_heads = 2,
                          .vocabulary = 5,
                          .context = 6,
                          .shared_classifier = shared};
            const std::string content = random_checkpoint(config, format, 3);
            const Checkpoint checkpoint = read_llama2c(directory_.write("random.bin", content));
            expect_config(checkpoint.config, shared);
            EXPECT_EQ(checkpoint.final_norm[0], 1.0f);
            EXPECT_EQ(checkpoint.layers[1].ffn_norm[7], 1.0f);
            EXPECT_NE(element(checkpoint.classifier, 0, 0), element(checkpoint.classifier, 4, 7));
            EXPECT_EQ(content, random_checkpoint(config, format, 3));
            EXPECT_NE(content, random_checkpoint(config, format, 4));
        }
    }
}

TEST_F(CheckpointTest, RefusesWhatCannotBeOpened) {
    EXPECT_THAT(refusal_of(directory_ / "missing.bin"), HasSubstr("No such file"));
    EXPECT_THAT(refusal_of(directory_.path()), HasSubstr("Is a directory"));
    EXPECT_THAT(refusal_of("/dev/null"), HasSubstr("not a regular file"));
}

TEST_F(CheckpointTest, RefusesFilesOfAnotherSize) {
    const std::string good = header(small) + counting(shared_parameters + tables);
    EXPECT_THAT(refusal(""), HasSubstr("empty"));
    for (const std::size_t size : {1u, 3u, 4u, 27u}) {
        EXPECT_THAT(refusal(good.substr(0, size)), HasSubstr("ends inside the header")) << size;
    }
    for (const std::size_t size : {std::size_t{28}, std::size_t{1000}, good.size() - 4, good.size() - 1}) {
        EXPECT_THAT(refusal(good.substr(0, size)), AllOf(HasSubstr("truncated"), HasSubstr(std::to_string(good.size())),
                                                         HasSubstr("the file has " + std::to_string(size))));
    }
    EXPECT_THAT(refusal(good + '\0'), HasSubstr("too long"));

    const std::string good_1 = version_1_header(small, 1) + counting(shared_parameters);
    EXPECT_THAT(refusal(good_1.substr(0, 100)), HasSubstr("ends inside the header"));
    EXPECT_THAT(refusal(good_1.substr(0, 256)), HasSubstr("truncated"));
    EXPECT_THAT(refusal(good_1.substr(0, good_1.size() - 1)), HasSubstr("truncated"));
    EXPECT_THAT(refusal(good_1 + "more"), HasSubstr("too long"));
}

TEST_F(CheckpointTest, RefusesHeadersThatMakeNoSense) {
    constexpr std::int32_t largest = std::numeric_limits<std::int32_t>::max();
    constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
    const char* const names[] = {"width",      "feed-forward width", "layers", "heads", "key and value heads",
                                 "vocabulary", "trained context"};
    for (std::size_t field = 0; field < 7; ++field) {
        for (const std::int32_t value : {0, -1, lowest, largest}) {
            Sizes sizes = small;
            sizes[field] = value;
            const auto complaint =
                HasSubstr(std::string(names[field]) + " is " + std::to_string(value) + ", must be 1 to");
            // A negative vocabulary is how the legacy format says that the classifier is not shared.
            if (field != 5) {
                EXPECT_THAT(refusal(header(sizes) + counting(2000)), complaint);
            }
            EXPECT_THAT(refusal(version_1_header(sizes, 1) + counting(2000)), complaint);
        }
    }
    // As large as allowed everywhere: the product is far beyond the file, and beyond nothing else.
    EXPECT_THAT(refusal(header({1 << 20, 1 << 22, 1 << 14, 64, 1, 1 << 24, 1 << 24})), HasSubstr("truncated"));
    EXPECT_THAT(refusal(header({8, 12, 2, 3, 1, 5, 6})),
                HasSubstr("dim is 8, must be a multiple of n_heads, which is 3"));
    EXPECT_THAT(refusal(header({8, 12, 2, 8, 2, 5, 6})), HasSubstr("the size of a head is 1"));
    EXPECT_THAT(refusal(header({8, 12, 2, 4, 3, 5, 6})),
                HasSubstr("3 key and value heads, which must divide the 4 query heads"));
}

TEST_F(CheckpointTest, RefusesOtherVersions) {
    EXPECT_THAT(refusal(version_1_header(small, 1, 2) + counting(2000)), HasSubstr("version 2"));
    EXPECT_THAT(refusal(version_1_header(small, 1, 0) + counting(2000)), HasSubstr("version 0"));
    EXPECT_THAT(refusal(version_1_header(small, 7) + counting(2000)), HasSubstr("flag is 7"));
}

TEST(SharedModel, IsReadAsItsDescriptionSays) {
    const std::string path = FREQKV_SHARED_DIR "/models/stories260K.bin";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
    const Checkpoint checkpoint = read_llama2c(path);
    const Config& config = checkpoint.config;
    EXPECT_EQ(config.dim, 64);
    EXPECT_EQ(config.layers, 5);
    EXPECT_EQ(config.heads, 8);
    EXPECT_EQ(config.kv_heads, 4);
    EXPECT_EQ(config.vocabulary, 512);
    EXPECT_EQ(config.context, 512);
    EXPECT_TRUE(config.shared_classifier);
}

}  // namespace
}  // namespace llama
