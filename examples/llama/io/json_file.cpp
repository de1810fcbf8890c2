// SPDX-License-Identifier: MIT
#include "llama/io/json_file.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/utf8.hpp"

namespace llama {

namespace {

using nlohmann::json;

// Takes the events of nlohmann's parser and makes the value. The parser's own maker of values goes over all members of
// a container whenever one in it ends, if it is to check anything.
class Builder final : public json::json_sax_t {
public:
    Builder(std::size_t file_bytes, const std::string& path, std::span<const JsonMembers> streamed)
        : path_(path), streamed_(streamed), most_memory_((std::size_t{32} << 20) + 2 * file_bytes) {}

    json take() && { return std::move(root_); }

    bool null() override { return add(nullptr, 0); }
    bool boolean(bool value) override { return add(value, 0); }
    bool number_integer(json::number_integer_t value) override { return add(value, 0); }
    bool number_unsigned(json::number_unsigned_t value) override { return add(value, 0); }
    bool number_float(json::number_float_t value, const std::string& /*text*/) override { return add(value, 0); }
    bool string(std::string& value) override {
        const std::size_t memory = block(sizeof(std::string)) + bytes_of(value);
        return add(std::move(value), memory);
    }
    bool binary(json::binary_t& /*value*/) override { return false; }  // JSON has none

    bool start_object(std::size_t /*size*/) override { return open(json::value_t::object); }
    bool end_object() override { return close(); }
    bool start_array(std::size_t /*size*/) override { return open(json::value_t::array); }
    bool end_array() override { return close(); }

    bool key(std::string& key) override {
        if (key.size() > longest_key) {
            fail("a key of " + std::to_string(key.size()) + " bytes, at most " + std::to_string(longest_key) +
                 " are read");
        }
        Container& in = containers_.back();
        in.key = std::move(key);
        if (in.members != nullptr) return true;
        // A node of the map: four words besides the key and the value.
        spend(block(4 * sizeof(void*) + sizeof(std::string) + sizeof(json)) + bytes_of(in.key));
        const auto [place, is_new] = in.value->get_ref<json::object_t&>().emplace(in.key, nullptr);
        if (!is_new) fail_twice(in.key);
        in.member = &place->second;
        return true;
    }

    bool parse_error(std::size_t position, const std::string& /*last_token*/, const json::exception& error) override {
        // Behind "[json.exception.…]", and without the last token, which may be as long as the file.
        std::string_view reason = error.what();
        reason.remove_prefix(std::min(reason.find("] ") + 2, reason.size()));
        fail(visible(reason, 120) + ", at byte " + std::to_string(position));
    }

private:
    // One that is not complete.
    struct Container {
        json* value;
        const JsonMembers* members = nullptr;  // what takes them, if they are not kept
        std::size_t memory = 0;                // in use before the member that is being read
        std::string key{};                     // of that member
        json* member = nullptr;                // where it goes, in an object
        std::string place{};
    };

    static constexpr std::size_t deepest = 32;
    static constexpr std::size_t longest_key = std::size_t{1} << 16;

    // What a block of that size takes of the heap.
    static std::size_t block(std::size_t bytes) { return (bytes + sizeof(std::size_t) + 15) / 16 * 16; }
    static std::size_t bytes_of(const std::string& text) { return text.size() > 15 ? block(text.size() + 1) : 0; }

    void spend(std::size_t bytes) {
        memory_ += bytes;
        if (memory_ > most_memory_) {
            fail("its values would take more than " + std::to_string(most_memory_) +
                 " bytes of memory, the most for a file of its size");
        }
    }

    bool add(json&& value, std::size_t memory) {
        spend(memory);
        if (containers_.empty()) {
            root_ = std::move(value);
            return true;
        }
        place(std::move(value));
        return end_member();
    }

    // Puts a value where it belongs in the innermost container.
    json* place(json&& value) {
        Container& in = containers_.back();
        if (in.members != nullptr) {
            streamed_member_ = std::move(value);
            return &streamed_member_;
        }
        if (in.value->is_object()) {
            *in.member = std::move(value);
            return in.member;
        }
        auto& elements = in.value->get_ref<json::array_t&>();
        spend(2 * sizeof(json));  // half of the vector's room may be unused
        return &elements.emplace_back(std::move(value));
    }

    bool open(json::value_t type) {
        if (containers_.size() == deepest) fail("nested deeper than " + std::to_string(deepest) + " levels");
        spend(block(type == json::value_t::object ? sizeof(json::object_t) : sizeof(json::array_t)));
        if (containers_.empty()) {
            root_ = json(type);
            containers_.push_back({&root_});
        } else {
            const Container& in = containers_.back();
            std::string name;
            if (!streamed_.empty() && !in_member_ && in.value->is_object()) name = in.place + "/" + in.key;
            json* const value = place(json(type));
            containers_.push_back({value});
            containers_.back().place = std::move(name);
            if (containers_.back().place.empty()) return true;
        }
        Container& opened = containers_.back();
        if (in_member_) return true;
        const auto of = type == json::value_t::object ? JsonMembers::Of::object : JsonMembers::Of::array;
        const auto found = std::find_if(streamed_.begin(), streamed_.end(), [&](const JsonMembers& members) {
            return members.of == of && members.place == opened.place;
        });
        if (found == streamed_.end()) return true;
        opened.members = &*found;
        opened.memory = memory_;
        in_member_ = true;
        return true;
    }

    bool close() {
        if (containers_.back().members != nullptr) in_member_ = false;
        containers_.pop_back();
        return containers_.empty() || end_member();
    }

    // The innermost container has a member more.
    bool end_member() {
        Container& in = containers_.back();
        if (in.members == nullptr) return true;
        if (!in.members->take(in.key, streamed_member_)) fail_twice(in.key);
        streamed_member_ = nullptr;
        memory_ = in.memory;
        return true;
    }

    [[noreturn]] void fail_twice(const std::string& key) const {
        fail("an object has the key " + in_quotes(key) + " twice");
    }
    [[noreturn]] void fail(const std::string& reason) const { throw FileError(path_, "no usable JSON: " + reason); }

    const std::string& path_;
    std::span<const JsonMembers> streamed_;
    std::size_t most_memory_;
    std::size_t memory_ = 0;  // of the values so far
    json root_;
    std::vector<Container> containers_;  // the outermost first
    json streamed_member_;               // the one that is being read
    bool in_member_ = false;
};

// Looks at what the parser would repeat several times in its message, however long: texts that do not end, control
// characters, bytes that are no UTF-8, endless numbers. It also takes a NUL character for the end of the file.
void check_words(std::string_view text, const std::string& path) {
    constexpr std::size_t longest_word = 4096;
    const auto fail = [&](const char* what, std::size_t at) {
        throw FileError(path, std::string("no usable JSON: ") + what + " at byte " + std::to_string(at));
    };
    constexpr std::size_t none = std::string_view::npos;
    std::size_t quote = none;  // where the text began that is being read
    std::size_t word = 0;      // bytes of the number or name that is being read
    for (std::size_t at = 0; at < text.size(); ++at) {
        const auto byte = static_cast<unsigned char>(text[at]);
        if (byte == 0 || (byte < 0x20 && quote != none)) fail("a control character", at);
        if (byte >= 0x80) {
            const std::size_t length = utf8_length(text.substr(at));
            if (length == 0) fail("no UTF-8", at);
            at += length - 1;
        } else if (quote == none) {
            if (byte == '"') quote = at;
            const bool in_word = byte > ' ' && std::string_view("\"[]{},:").find(text[at]) == none;
            word = in_word ? word + 1 : 0;
            if (word > longest_word) fail("a number or name that does not end", at);
        } else if (byte == '"') {
            quote = none;
        } else if (byte == '\\') {
            ++at;  // a quote behind it is the text's own; whatever else is for the parser
        }
    }
    if (quote != none) fail("a text that does not end, begun", quote);
}

}  // namespace

json parse_json(std::span<const std::byte> bytes, const std::string& path, std::span<const JsonMembers> streamed) {
    const auto* const begin = reinterpret_cast<const char*>(bytes.data());
    check_words({begin, bytes.size()}, path);
    Builder builder(bytes.size(), path, streamed);
    json::sax_parse(begin, begin + bytes.size(), &builder);
    return std::move(builder).take();
}

json read_json(const std::string& path, std::size_t most, std::span<const JsonMembers> streamed) {
    const MappedFile file(path);
    if (file.bytes().size() > most) {
        throw FileError(path,
                        std::to_string(file.bytes().size()) + " bytes; at most " + std::to_string(most) + " are read");
    }
    return parse_json(file.bytes(), path, streamed);
}

}  // namespace llama
