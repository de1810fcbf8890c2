// SPDX-License-Identifier: MIT
#pragma once

#include "llama/model/checkpoint.hpp"

namespace llama {

/// Brings weights into the order that Hugging Face's files have, for adapters are made for it: where queries and keys
/// are rotated in pairs of neighbours, as in GGUF files of Llama and in llama2.c's, the rows of their projections are
/// sorted into halves (copies, which the checkpoint keeps, of the type that they have). What the model computes stays
/// the same, but for the order of sums. Throws FileError, without change, for norms as GGUF files of Gemma have them.
void arrange_as_hugging_face(Checkpoint& checkpoint);

}  // namespace llama
