// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llama/tokenizers/tokenizer.hpp"
#include "llama/training/training_data.hpp"

namespace llama {

/// What a model that was trained on instructions is asked with:
///
///     ### Instruction:
///     <instruction>
///
///     ### Input:
///     <input>
///
///     ### Response:
///
/// and an end of line. Without input its section is left out.
std::string instruction_prompt(std::string_view instruction, std::string_view input);

/// Instructions and the answers to them, as LongAlpaca has them: a JSON array of objects with the strings
/// `instruction`, `input` (optional) and `output`; other members are ignored. An example is BOS, the prompt, the
/// output and EOS, as far as there are BOS and EOS; the targets of output and EOS count.
///
/// An example has at most `length` + 1 tokens. Where it would have more, the middle of the prompt is left out, so
/// that its sections' headings stay, down to a quarter of the sequence, and then the end of the output with EOS. A
/// record without output, or none of whose output fits, is skipped.
class InstructionRecords final : public TrainingData {
public:
    /// Called from time to time with the number of records that were read, and of all.
    using Progress = std::function<void(std::size_t, std::size_t)>;

    /// `end_of_text` is EOS if the tokenizer has none; -1: none. Throws FileError, which names the record (from 0) and
    /// its member, also if all records are skipped.
    InstructionRecords(const std::string& path, const Tokenizer& tokenizer, Index vocabulary, Index length,
                       std::uint64_t seed, int threads, const Progress& progress = {}, Token end_of_text = -1);

    Example example(Index i) const override;
    Index examples_per_epoch() const override { return static_cast<Index>(records_.size()); }
    std::uint64_t fingerprint() const override;

    Index skipped() const { return skipped_; }  ///< records that are no examples
    Index cut() const { return cut_; }          ///< examples from which something was left out

private:
    struct Record {
        std::size_t begin, end;  // in tokens_
        Index first_target;
    };

    std::vector<Token> tokens_;  // of all records
    std::vector<Record> records_;
    Index skipped_ = 0;
    Index cut_ = 0;
    std::uint64_t seed_;
};

}  // namespace llama
