// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/model/checkpoint.hpp"

namespace llama {

/// A llama2.c checkpoint in float32; the weights are views into the mapped file. Two formats:
///
/// - legacy: 7 int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len), then the
///   embedding, the layers' weights kind by kind, the last norm, and two rotary tables that nobody
///   reads; a classifier follows if vocab_size is negative.
/// - version 1: "ak42" as an int32, the version, the same 7 int32, one byte that says whether the
///   classifier is the embedding, zeros up to 256 bytes, then all norms before all matrices.
///
/// Both are exact: the file must be as long as its header says. Throws FileError naming what is wrong with it.
Checkpoint read_llama2c(const std::string& path);

/// Derives the size of a head, which the format leaves out. Throws FileError, with `path`, for a shape that no file
/// can have.
void complete_llama2c_config(Config& config, const std::string& path);

}  // namespace llama
