// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// Types of SentencePiece's pieces, which GGUF numbers in the same way.
enum class PieceType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// What the project itself needs of a serialised SentencePiece model.
struct SentencePieceModel {
    bool drops_leading_space = true;     ///< the space at the beginning of a decoded text is not the text's own
    bool dummy_prefix = true;            ///< a text gets a space at its beginning, whatever it begins with
    bool joins_neighbours_only = false;  ///< and changes no character: it may be cut where no piece reaches across
    bool lines_are_independent = false;  ///< as Tokenizer says; false where it is not sure
};

/// Reads it, and throws FileError for a model on which libsentencepiece would leave its memory or end the
/// program, and for one whose normalizer rewrites characters.
SentencePieceModel check_sentencepiece_model(std::string_view model, const std::string& path);

/// What, behind a serialised model, takes the space from the beginning of texts.
std::string without_dummy_prefix();

/// A serialised BPE model, which puts a space before a text if `dummy_prefix` and changes nothing else in it. All
/// vectors are [pieces].
std::string serialize_sentencepiece_bpe(const std::vector<std::string>& pieces, const std::vector<float>& scores,
                                        const std::vector<PieceType>& types, bool dummy_prefix);

}  // namespace llama
