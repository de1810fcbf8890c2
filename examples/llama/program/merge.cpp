// SPDX-License-Identifier: MIT
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/adapter.hpp"
#include "llama/formats/hugging_face.hpp"
#include "llama/formats/hugging_face_writer.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/io/atomic_file.hpp"
#include "llama/io/format.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/io/temporary.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

namespace fs = std::filesystem;

// Where the merged model goes: `path` or what it links to, which is new or an empty directory, else FileError.
std::string find_place(std::string path) {
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    path = follow_links(path);
    std::error_code error;
    if (fs::exists(path, error) && !(fs::is_directory(path, error) && fs::is_empty(path, error))) {
        throw FileError(path, "exists; must be new or an empty directory");
    }
    return path;
}

// "merging: 40%, 0:12 left"
class ProgressLine {
public:
    ProgressLine(const char* work, StatusLine& line) : work_(work), line_(line) {}

    void operator()(Index done, Index total) {
        Interrupt::check();
        if (!line_.due() || done == 0) return;
        const double seconds = stopwatch_.seconds();
        const double part = static_cast<double>(done) / static_cast<double>(total);
        line_.show(format("%s: %.0f%%, ", work_, 100 * part) + format_duration(seconds / part - seconds) + " left");
    }

private:
    const char* work_;
    StatusLine& line_;
    Stopwatch stopwatch_;
};

std::optional<WeightType> find_type(const std::string& name) {
    if (name == "f32") return WeightType::f32;
    if (name == "f16") return WeightType::f16;
    if (name == "bf16") return WeightType::bf16;
    return std::nullopt;
}

// The types of the norms and biases, which the checkpoint holds in F32.
std::map<std::string, WeightType> types_in_files(const std::string& model) {
    std::map<std::string, WeightType> types;
    for (const TensorFile& file : open_tensor_files(model)) {
        for (const auto& [name, tensor] : file.tensors) {
            if (!is_redundant_tensor(name)) types.emplace(name, TensorReference{file.path, name, tensor}.type());
        }
    }
    return types;
}

// A changed weight has the type that is asked for, or holds it exactly; others stay as they are.
std::vector<TensorToWrite> list_merged_tensors(const Checkpoint& checkpoint, const ChangedWeights& changed,
                                               const MergeOptions& options) {
    const std::map<std::string, WeightType> original = types_in_files(options.model);
    const std::optional<WeightType> asked = find_type(options.type);
    return list_tensors(checkpoint, [&](const NamedWeights& weights) {
        const auto change = changed.find(weights.name);
        if (change != changed.end() && asked) return *asked;
        if (weights.matrix != nullptr) return weights.matrix->type;
        return change != changed.end() ? change->second : original.at(weights.name);
    });
}

}  // namespace

int merge(const MergeOptions& options) {
    std::error_code error;
    if (!fs::is_directory(options.model, error)) {
        throw FileError(options.model, "no directory; a model of Hugging Face is one");
    }
    if (read_json(options.model + "/config.json").contains("text_config")) {
        throw FileError(options.model, "a model for images, too, of which merge would write the part for text only");
    }
    Temporary out(find_place(options.out), Temporary::Kind::directory);
    Interrupt::install();
    StatusLine line(false);
    try {
        Checkpoint checkpoint = read_hugging_face(options.model);
        const Index vocabulary = checkpoint.config.vocabulary;
        const ChangedWeights changed = merge_adapter(checkpoint, options.adapter, ProgressLine("merging", line));
        const std::vector<TensorToWrite> tensors = list_merged_tensors(checkpoint, changed, options);
        write_safetensors(out.name() + "/model.safetensors", tensors, ProgressLine("writing", line));
        AtomicFile(out.name() + "/config.json")
            .write(finish_hugging_face_config(read_json(options.model + "/config.json"), checkpoint, tensors));
        // The tokenizer that knows the new tokens, if it was saved with the adapter.
        const bool has_new_tokens = checkpoint.config.vocabulary > vocabulary;
        const bool has_tokenizer =
            file_exists(options.adapter + "/tokenizer.json") || file_exists(options.adapter + "/tokenizer.model");
        copy_companions(options.model, out.name(), has_new_tokens && has_tokenizer ? options.adapter : "");
    } catch (const Interrupted&) {
        return Interrupt::exit_status();
    }
    out.rename_to_target();
    return 0;
}

}  // namespace llama
