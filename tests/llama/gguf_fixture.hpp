// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/temporary_directory.hpp"

namespace llama::test {

class Gguf : public testing::Test {
protected:
    std::string write(const std::string& bytes) const { return directory_.write("model.gguf", bytes); }

    // The message without the path.
    std::string refusal(const std::string& bytes, const std::function<void(const std::string&)>& read) const {
        const std::string path = write(bytes);
        try {
            read(path);
        } catch (const FileError& error) {
            const std::string what = error.what();
            EXPECT_TRUE(what.starts_with(path + ": ")) << what;
            EXPECT_EQ(what.find('\n'), std::string::npos) << "more than one line: " << what;
            return what.substr(path.size() + 2);
        }
        return "accepted";
    }
    std::string refusal(const std::string& bytes) const {
        return refusal(bytes, [](const std::string& path) { read_gguf(path); });
    }
    std::string refusal(const GgufWriter& file) const { return refusal(file.bytes()); }

    // The message for a model that is valid but for one change.
    template <class Change>
    std::string refusal_after(Change change, const GgufModelOptions& options = {}) const {
        GgufWriter file = small_gguf(options);
        change(file);
        return refusal(file);
    }

    TemporaryDirectory directory_;
};

}  // namespace llama::test
