// SPDX-License-Identifier: MIT
#include "llama/tokenizers/sentencepiece_model.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/protobuf.hpp"

namespace llama {

namespace {

// Numbers of the fields in sentencepiece_model.proto.
namespace field {
constexpr std::uint64_t pieces = 1, trainer = 2, normalizer = 3, denormalizer = 5;  // of the model
constexpr std::uint64_t text = 1, score = 2, type = 3;                              // of a piece
constexpr std::uint64_t model_type = 3, space_as_suffix = 24, byte_fallback = 35;   // of the trainer
constexpr std::uint64_t name = 1, character_map = 2, dummy_prefix = 3, remove_spaces = 4, escape_spaces = 5;
}  // namespace field

constexpr std::uint64_t bpe = 2;  // a model_type

class ModelChecker {
public:
    SentencePieceModel check(std::string_view model) {
        for (ProtobufReader reader(model); const auto part = reader.next();) {
            if (part->number == field::pieces) {
                check_piece(part->bytes);
                check_count(model.size());
            }
            if (part->number == field::trainer) read_trainer(part->bytes);
            if (part->number == field::normalizer) check_normalizer(part->bytes, true);
            if (part->number == field::denormalizer) check_normalizer(part->bytes, false);
        }
        check_nesting();
        return {dummy_prefix_ || remove_spaces_, dummy_prefix_, joins_neighbours_only(), lines_are_independent()};
    }

private:
    void check_piece(std::string_view piece) {
        constexpr std::size_t longest = 4096;  // the library recurses into unused pieces
        std::string_view text;
        std::uint64_t type = static_cast<std::uint64_t>(PieceType::normal);
        for (ProtobufReader reader(piece); const auto part = reader.next();) {
            if (part->number == field::text) text = part->bytes;
            if (part->number == field::type) type = part->value;
        }
        if (text.size() > longest) {
            throw std::invalid_argument("piece " + std::to_string(pieces_) + " has " + std::to_string(text.size()) +
                                        " bytes; at most " + std::to_string(longest) + " are allowed");
        }
        if (text.find('\0') != std::string_view::npos) {
            throw std::invalid_argument("piece " + std::to_string(pieces_) + " has a null character");
        }
        if (type == static_cast<std::uint64_t>(PieceType::user_defined)) user_defined_.push_back(text);
        if (type == static_cast<std::uint64_t>(PieceType::unused)) has_unused_ = true;
        if (text == "\n") has_line_end_ = true;
        if (text.size() > 1 && text.find('\n') != std::string_view::npos) spans_lines_ = true;
        ++pieces_;
    }

    // The library takes some 240 bytes for each, of which a file may spend eight; there are models with 262,144 in four
    // million bytes.
    void check_count(std::size_t model_bytes) const {
        constexpr std::size_t bytes_of_piece = 240;
        const std::size_t most = ((std::size_t{52} << 20) + model_bytes * 5 / 2) / bytes_of_piece;
        if (pieces_ > most) {
            throw std::invalid_argument("more than " + std::to_string(most) +
                                        " pieces, the most for a model of its size");
        }
    }

    void read_trainer(std::string_view trainer) {
        for (ProtobufReader reader(trainer); const auto part = reader.next();) {
            if (part->number == field::model_type) model_type_ = part->value;
            if (part->number == field::space_as_suffix) space_as_suffix_ = part->value != 0;
            if (part->number == field::byte_fallback) byte_fallback_ = part->value != 0;
        }
    }

    // Merges by rank touch nothing but neighbours. The sums of a unigram model depend on all that comes before, the
    // ways back from unused pieces on all of the text, and unknown characters beside each other are one token.
    bool is_local() const { return model_type_ == bpe && !has_unused_ && !remove_spaces_ && !space_as_suffix_; }
    bool joins_neighbours_only() const { return is_local() && byte_fallback_; }
    bool lines_are_independent() const { return is_local() && !spans_lines_ && (has_line_end_ || byte_fallback_); }

    // The character map is an automaton in the file which the library follows without checks.
    void check_normalizer(std::string_view normalizer, bool of_input) {
        std::string_view name;
        std::string_view map;
        for (ProtobufReader reader(normalizer); const auto part = reader.next();) {
            if (part->number == field::name) name = part->bytes;
            if (part->number == field::character_map) map = part->bytes;
            if (of_input && part->number == field::dummy_prefix) dummy_prefix_ = part->value != 0;
            if (of_input && part->number == field::remove_spaces) remove_spaces_ = part->value != 0;
        }
        if (!map.empty()) {
            throw std::invalid_argument("its normalizer " + in_quotes(name) +
                                        " rewrites characters; only the identity is supported");
        }
    }

    // The library has room for that many user-defined pieces that begin at one character.
    void check_nesting() {
        constexpr std::size_t most = 64;
        std::sort(user_defined_.begin(), user_defined_.end());
        std::vector<std::string_view> prefixes;  // each is one of the next
        for (const std::string_view piece : user_defined_) {
            while (!prefixes.empty() && !piece.starts_with(prefixes.back())) prefixes.pop_back();
            prefixes.push_back(piece);
            if (prefixes.size() > most) {
                throw std::invalid_argument("more than " + std::to_string(most) +
                                            " user-defined pieces begin with each other, as " + in_quotes(piece));
            }
        }
    }

    std::size_t pieces_ = 0;
    std::vector<std::string_view> user_defined_;
    bool has_unused_ = false;
    bool has_line_end_ = false;  // as a piece
    bool spans_lines_ = false;   // a piece does
    std::uint64_t model_type_ = 0;
    bool space_as_suffix_ = false;
    bool byte_fallback_ = false;
    bool dummy_prefix_ = true;
    bool remove_spaces_ = true;
};

}  // namespace

SentencePieceModel check_sentencepiece_model(std::string_view model, const std::string& path) {
    try {
        return ModelChecker().check(model);
    } catch (const std::invalid_argument& error) {
        throw FileError(path, std::string("no usable SentencePiece model: ") + error.what());
    }
}

std::string without_dummy_prefix() {
    // Messages that follow each other are one.
    ProtobufWriter normalizer, model;
    normalizer.add(field::dummy_prefix, std::uint64_t{0});
    model.add(field::normalizer, normalizer.message());
    return model.message();
}

std::string serialize_sentencepiece_bpe(const std::vector<std::string>& pieces, const std::vector<float>& scores,
                                        const std::vector<PieceType>& types, bool dummy_prefix) {
    ProtobufWriter model;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        ProtobufWriter piece;
        piece.add(field::text, pieces[i]);
        piece.add(field::score, scores[i]);
        piece.add(field::type, static_cast<std::uint64_t>(types[i]));
        model.add(field::pieces, piece.message());
    }
    ProtobufWriter trainer;
    trainer.add(field::model_type, bpe);
    const bool has_bytes = std::find(types.begin(), types.end(), PieceType::byte) != types.end();
    trainer.add(field::byte_fallback, std::uint64_t{has_bytes});
    model.add(field::trainer, trainer.message());
    ProtobufWriter normalizer;
    normalizer.add(field::name, "identity");
    normalizer.add(field::dummy_prefix, std::uint64_t{dummy_prefix});
    normalizer.add(field::remove_spaces, std::uint64_t{0});
    normalizer.add(field::escape_spaces, std::uint64_t{1});
    model.add(field::normalizer, normalizer.message());
    return model.message();
}

}  // namespace llama
