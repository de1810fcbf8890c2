// SPDX-License-Identifier: MIT
#include <functional>

#include "llama/program/commands.hpp"
#include "llama/program/run_commands.hpp"

// freqkv-llama-cpp: the commands of freqkv-llama that let a model read and write, on an unmodified libllama.
int main(int argc, char** argv) {
    return llama::run_commands("freqkv-llama-cpp", "libllama with a cache that is compressed when it is full.", argc,
                               argv, llama::add_model_commands);
}
