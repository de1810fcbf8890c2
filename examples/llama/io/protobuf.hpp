// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

// As much of the protocol buffers' wire format as a SentencePiece model needs.
namespace llama {

/// A field of a message: a number (varint or fixed width), or bytes (text, another message).
struct ProtobufField {
    enum class Type : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };
    std::uint64_t number = 0;
    Type type = Type::varint;
    std::uint64_t value = 0;
    std::string_view bytes{};
};

/// Takes a serialised message apart.
class ProtobufReader {
public:
    explicit ProtobufReader(std::string_view message) : rest_(message) {}

    /// The next field, nothing at the end. Throws std::invalid_argument if the message is broken.
    std::optional<ProtobufField> next() {
        if (rest_.empty()) return std::nullopt;
        const std::uint64_t key = take_varint();
        ProtobufField field{key >> 3, static_cast<ProtobufField::Type>(key & 7)};
        switch (field.type) {
            case ProtobufField::Type::varint:
                field.value = take_varint();
                return field;
            case ProtobufField::Type::fixed64:
                std::memcpy(&field.value, take(8).data(), 8);
                return field;
            case ProtobufField::Type::bytes:
                field.bytes = take(take_varint());
                return field;
            case ProtobufField::Type::fixed32:
                std::memcpy(&field.value, take(4).data(), 4);
                return field;
        }
        throw std::invalid_argument("a field of wire type " + std::to_string(key & 7));
    }

private:
    std::string_view take(std::uint64_t size) {
        if (size > rest_.size()) throw std::invalid_argument("it ends within a field");
        const std::string_view taken = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return taken;
    }

    std::uint64_t take_varint() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            const auto byte = static_cast<unsigned char>(take(1).front());
            value |= std::uint64_t{byte & 0x7Fu} << shift;
            if (byte < 0x80) return value;
        }
        throw std::invalid_argument("a number of more than 64 bits");
    }

    std::string_view rest_;
};

/// Puts a serialised message together.
class ProtobufWriter {
public:
    void add(std::uint64_t number, std::uint64_t value) {
        add_key(number, ProtobufField::Type::varint);
        add_varint(value);
    }
    void add(std::uint64_t number, float value) {
        add_key(number, ProtobufField::Type::fixed32);
        char bytes[sizeof value];
        std::memcpy(bytes, &value, sizeof value);
        message_.append(bytes, sizeof bytes);
    }
    void add(std::uint64_t number, std::string_view bytes) {
        add_key(number, ProtobufField::Type::bytes);
        add_varint(bytes.size());
        message_ += bytes;
    }

    const std::string& message() const { return message_; }

private:
    void add_key(std::uint64_t number, ProtobufField::Type type) {
        add_varint(number << 3 | static_cast<std::uint64_t>(type));
    }
    void add_varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7) message_ += static_cast<char>(value | 0x80);
        message_ += static_cast<char>(value);
    }

    std::string message_;
};

}  // namespace llama
