// SPDX-License-Identifier: MIT
#include "llama/formats/unpickle.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llama/io/in_quotes.hpp"

namespace llama {

namespace {

using Bytes = std::span<const std::byte>;

// A value on the stack of the pickle machine. Containers stand in tables, so that a value that is used many times
// is there once.
struct Value {
    enum class Kind : std::uint8_t { mark, none, boolean, whole, text, function, tuple, dictionary, storage, tensor };
    Kind kind = Kind::none;
    std::int64_t number = 0;  // of a boolean or whole number; else the index in its table
    std::string_view text{};  // of a text or function, in the file
};

using Kind = Value::Kind;

struct Storage {
    std::string type;
    Bytes bytes;
};

struct Storages {
    const char* function;
    WeightType type;
};

constexpr Storages storages[] = {{"torch\nFloatStorage", WeightType::f32},
                                 {"torch\nHalfStorage", WeightType::f16},
                                 {"torch\nBFloat16Storage", WeightType::bf16}};
constexpr std::string_view ordered_dictionary = "collections\nOrderedDict";
constexpr std::string_view rebuild_tensor = "torch._utils\n_rebuild_tensor_v2";
constexpr std::string_view rebuild_parameter = "torch._utils\n_rebuild_parameter";

// The machine that a pickle is a program for, with the instructions that a dictionary of tensors needs.
class Unpickler {
public:
    using Archive = std::map<std::string_view, Bytes>;

    Unpickler(const std::string& path, const Archive& archive, std::string_view folder, Bytes program)
        : path_(path),
          data_(std::string(folder) + "/data/"),
          program_(program),
          most_memory_((std::size_t{40} << 20) + 2 * program.size()) {
        for (auto file = archive.lower_bound(data_); file != archive.end() && file->first.starts_with(data_); ++file) {
            storage_files_.emplace(file->first.substr(data_.size()), file->second);
        }
    }

    std::map<std::string, StoredTensor> run() {
        while (true) {
            const std::size_t at = at_;
            const auto code = load<std::uint8_t>();
            if (code == '.') break;
            if (!execute(code)) {
                char name[8];
                std::snprintf(name, sizeof name, "0x%02x", static_cast<unsigned>(code));
                fail("the instruction " + std::string(name) + " at byte " + std::to_string(at) +
                     " is none that a dictionary of tensors needs");
            }
        }
        const Value top = pop(Kind::dictionary);
        std::map<std::string, StoredTensor> tensors;
        for (const auto& [name, value] : dictionaries_[index(top)]) {
            if (value.kind != Kind::tensor) fail(in_quotes(name) + " is no tensor");
            tensors.insert_or_assign(std::string(name), tensors_[index(value)]);
        }
        return tensors;
    }

private:
    // On the stack; picklers save a thousand items at a time.
    static constexpr std::size_t most_values = std::size_t{1} << 16;
    static constexpr std::size_t longest_name = 1024;

    static std::size_t index(const Value& value) { return static_cast<std::size_t>(value.number); }

    // False if the instruction is unknown.
    bool execute(std::uint8_t code) {
        switch (code) {
            case 0x80:  // PROTO
                if (const auto version = load<std::uint8_t>(); version != 2) {
                    fail("pickle protocol " + std::to_string(version) + ", must be 2");
                }
                return true;
            case 'q':  // BINPUT
                put(load<std::uint8_t>());
                return true;
            case 'r':  // LONG_BINPUT
                put(load<std::uint32_t>());
                return true;
            case 'h':  // BINGET
                get(load<std::uint8_t>());
                return true;
            case 'j':  // LONG_BINGET
                get(load<std::uint32_t>());
                return true;
            case '(':
                push({Kind::mark});
                return true;
            case 'N':
                push({Kind::none});
                return true;
            case 0x88:
            case 0x89:
                push({Kind::boolean, code == 0x88});
                return true;
            case 'J':  // BININT
                push({Kind::whole, load<std::int32_t>()});
                return true;
            case 'K':  // BININT1
                push({Kind::whole, load<std::uint8_t>()});
                return true;
            case 'M':  // BININT2
                push({Kind::whole, load<std::uint16_t>()});
                return true;
            case 0x8a:  // LONG1
                push({Kind::whole, load_long()});
                return true;
            case 'X':  // BINUNICODE
                push({Kind::text, 0, take(load<std::uint32_t>())});
                return true;
            case 'c':  // GLOBAL
                push({Kind::function, 0, take_function()});
                return true;
            case ')':
            case 0x85:
            case 0x86:
            case 0x87:
                make_tuple(code == ')' ? 0 : code - 0x84u);
                return true;
            case 't':
                make_tuple(above_mark());
                stack_.erase(stack_.end() - 2);  // the mark, below the new tuple
                return true;
            case '}':
                make_dictionary();
                return true;
            case 's':  // SETITEM
                set_items(2);
                return true;
            case 'u': {  // SETITEMS
                const std::size_t count = above_mark();
                stack_.erase(stack_.end() - static_cast<std::ptrdiff_t>(count) - 1);
                set_items(count);
                return true;
            }
            case 'b':  // BUILD: the versions of the modules that a state dictionary carries as an attribute
                pop(Kind::dictionary);
                if (top().kind != Kind::dictionary) fail("attributes are set on what is no dictionary");
                return true;
            case 'Q':  // BINPERSID
                push_storage(pop(Kind::tuple));
                return true;
            case 'R':  // REDUCE
                call();
                return true;
            default:
                return false;
        }
    }

    std::string_view take(std::size_t count) {
        if (count > program_.size() - at_) fail("the program ends inside an instruction");
        const Bytes bytes = program_.subspan(std::exchange(at_, at_ + count), count);
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    template <class Number>
    Number load() {
        Number number{};
        take(sizeof number).copy(reinterpret_cast<char*>(&number), sizeof number);
        return number;
    }

    // A little-endian number of any width, of which no tensor needs more than 8 bytes.
    std::int64_t load_long() {
        const std::string_view bytes = take(load<std::uint8_t>());
        if (bytes.size() > sizeof(std::int64_t)) fail("a number of more than 64 bits");
        std::int64_t number = !bytes.empty() && (static_cast<unsigned char>(bytes.back()) & 0x80u) != 0 ? -1 : 0;
        if (!bytes.empty()) std::memcpy(&number, bytes.data(), bytes.size());
        return number;
    }

    // Module and name, each up to the end of its line; refused unless known.
    std::string_view take_function() {
        const Bytes left = program_.subspan(at_);
        const std::string_view rest(reinterpret_cast<const char*>(left.data()), left.size());
        const std::size_t first = rest.find('\n');
        const std::size_t second = first == std::string_view::npos ? first : rest.find('\n', first + 1);
        if (second == std::string_view::npos) fail("the program ends inside an instruction");
        const std::string_view function = take(second + 1).substr(0, second);
        const bool known = function == ordered_dictionary || function == rebuild_tensor ||
                           function == rebuild_parameter ||
                           std::any_of(std::begin(storages), std::end(storages),
                                       [&](const Storages& s) { return function == s.function; });
        if (!known) {
            std::string name(function);
            name[first] = '.';
            fail("asks for " + in_quotes(name) +
                 ", which is not executed; only float, half and bfloat16 tensors are read");
        }
        return function;
    }

    // What stays until the end must not take much more memory than the program, whose instructions are a byte or two.
    void keep(std::size_t bytes) {
        memory_ += bytes;
        if (memory_ > most_memory_) {
            fail("its values would take more than " + std::to_string(most_memory_) +
                 " bytes of memory, the most for a program of its size");
        }
    }

    void push(const Value& value) {
        if (stack_.size() == most_values) fail("more than " + std::to_string(most_values) + " values on its stack");
        stack_.push_back(value);
    }

    void check_name(std::string_view name) const {
        if (name.size() <= longest_name) return;
        fail("a name of " + std::to_string(name.size()) + " bytes, at most " + std::to_string(longest_name) +
             " are read");
    }

    const Value& top() const {
        if (stack_.empty()) fail("an instruction finds its stack empty");
        return stack_.back();
    }

    Value pop(Kind kind) {
        const Value value = top();
        if (value.kind != kind)
            fail("an instruction finds another kind of value than a dictionary of tensors has there");
        stack_.pop_back();
        return value;
    }

    void put(std::uint32_t slot) {
        if (memo_.insert_or_assign(slot, top()).second) keep(sizeof(Value) + 6 * sizeof(void*));
    }

    void get(std::uint32_t slot) {
        const auto found = memo_.find(slot);
        if (found == memo_.end()) fail("memo " + std::to_string(slot) + " is read before it is written");
        push(found->second);
    }

    // Values above the topmost mark.
    std::size_t above_mark() const {
        const auto mark =
            std::find_if(stack_.rbegin(), stack_.rend(), [](const Value& value) { return value.kind == Kind::mark; });
        if (mark == stack_.rend()) fail("an instruction finds no mark");
        return static_cast<std::size_t>(mark - stack_.rbegin());
    }

    // Takes the topmost `count` values off the stack.
    std::vector<Value> pop_many(std::size_t count) {
        if (count > stack_.size()) fail("an instruction finds its stack too short");
        const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
        std::vector<Value> values(first, stack_.end());
        stack_.erase(first, stack_.end());
        return values;
    }

    void make_tuple(std::size_t count) {
        std::vector<Value> values = pop_many(count);
        keep(sizeof(std::vector<Value>) + 2 * sizeof(void*) + count * sizeof(Value));
        push({Kind::tuple, static_cast<std::int64_t>(tuples_.size())});
        tuples_.push_back(std::move(values));
    }

    void make_dictionary() {
        keep(sizeof(decltype(dictionaries_)::value_type));
        push({Kind::dictionary, static_cast<std::int64_t>(dictionaries_.size())});
        dictionaries_.emplace_back();
    }

    void set_items(std::size_t count) {
        const std::vector<Value> items = pop_many(count);
        if (count % 2 != 0 || top().kind != Kind::dictionary) fail("items are set on what is no dictionary");
        auto& dictionary = dictionaries_[index(top())];
        for (std::size_t i = 0; i < count; i += 2) {
            if (items[i].kind != Kind::text) fail("a key of a dictionary is no text");
            check_name(items[i].text);
            keep(2 * sizeof dictionary.front() + bytes_of_tensor);
            dictionary.emplace_back(items[i].text, items[i + 1]);
        }
    }

    // ('storage', class, key, device, number of elements)
    void push_storage(const Value& identifier) {
        const std::vector<Value>& parts = tuples_[index(identifier)];
        constexpr Kind kinds[] = {Kind::text, Kind::function, Kind::text, Kind::text, Kind::whole};
        if (!matches(parts, kinds) || parts[0].text != "storage") fail("a storage is described in an unknown way");
        const Storages* storage = std::begin(storages);
        while (storage != std::end(storages) && parts[1].text != storage->function) ++storage;
        if (storage == std::end(storages)) fail("a storage is described in an unknown way");
        check_name(parts[2].text);
        const auto name = [&] { return in_quotes(data_ + std::string(parts[2].text)); };
        const auto file = storage_files_.find(parts[2].text);
        if (file == storage_files_.end()) fail("there is no " + name() + " in the archive");
        const WeightFormat format = format_of(storage->type);
        const std::int64_t count = parts[4].number;
        const auto width = static_cast<std::size_t>(format.bytes);
        if (count < 0 || static_cast<std::uint64_t>(count) != file->second.size() / width ||
            file->second.size() % width != 0) {
            fail(name() + " has " + std::to_string(file->second.size()) + " bytes, must have " + std::to_string(count) +
                 " numbers of " + format.name);
        }
        keep(sizeof(Storage));
        push({Kind::storage, static_cast<std::int64_t>(storages_.size())});
        storages_.push_back({format.name, file->second});
    }

    void call() {
        const Value arguments = pop(Kind::tuple);
        const Value function = pop(Kind::function);
        const std::vector<Value>& parts = tuples_[index(arguments)];
        if (function.text == ordered_dictionary && parts.empty()) return make_dictionary();
        if (function.text == rebuild_tensor) return push_tensor(parts);
        constexpr Kind parameter[] = {Kind::tensor, Kind::boolean, Kind::dictionary};
        if (function.text == rebuild_parameter && matches(parts, parameter)) return push(parts[0]);
        fail("a function is called in an unknown way");
    }

    // (storage, offset in it, shape, strides, whether it is trained, hooks), counted in elements
    void push_tensor(const std::vector<Value>& parts) {
        constexpr Kind kinds[] = {Kind::storage, Kind::whole,   Kind::tuple,
                                  Kind::tuple,   Kind::boolean, Kind::dictionary};
        if (!matches(parts, kinds)) fail("a tensor is described in an unknown way");
        const Storage& storage = storages_[index(parts[0])];
        const std::vector<Value>& sizes = tuples_[index(parts[2])];
        const std::vector<Value>& strides = tuples_[index(parts[3])];
        constexpr std::size_t most_axes = 8;
        if (sizes.size() != strides.size() || sizes.size() > most_axes)
            fail("a tensor has another number of strides than of axes");
        const Index width = storage.type == "F32" ? 4 : 2;
        const Index available = static_cast<Index>(storage.bytes.size()) / width;
        StoredTensor tensor{storage.type, {}, {}};
        for (const Value& size : sizes) {
            if (size.kind != Kind::whole || size.number < 0) fail("a tensor has an axis that is no size");
            tensor.shape.push_back(size.number);
        }
        Index count = std::find(tensor.shape.begin(), tensor.shape.end(), 0) == tensor.shape.end() ? 1 : 0;
        for (std::size_t i = sizes.size(); i-- > 0 && count > 0;) {
            const bool dense = tensor.shape[i] == 1 || (strides[i].kind == Kind::whole && strides[i].number == count);
            if (!dense) fail("a tensor has gaps or another order than row-major; save contiguous() ones");
            if (tensor.shape[i] > available / count) fail("a tensor is larger than its storage");
            count *= tensor.shape[i];
        }
        const Index offset = parts[1].number;
        if (offset < 0 || offset > available - count) fail("a tensor is larger than its storage");
        tensor.bytes =
            storage.bytes.subspan(static_cast<std::size_t>(offset * width), static_cast<std::size_t>(count * width));
        keep(bytes_of_tensor);
        push({Kind::tensor, static_cast<std::int64_t>(tensors_.size())});
        tensors_.push_back(std::move(tensor));
    }

    static bool matches(const std::vector<Value>& values, std::span<const Kind> kinds) {
        return std::equal(values.begin(), values.end(), kinds.begin(), kinds.end(),
                          [](const Value& value, Kind kind) { return value.kind == kind; });
    }

    [[noreturn]] void fail(const std::string& reason) const { throw FileError(path_, "data.pkl: " + reason); }

    // With its shape and, in the result, its name.
    static constexpr std::size_t bytes_of_tensor = sizeof(StoredTensor) + 8 * sizeof(Index) + 8 * sizeof(void*);

    const std::string& path_;
    std::string data_;       // what the names of storages' files begin with
    Archive storage_files_;  // by what follows
    Bytes program_;
    std::size_t most_memory_;
    std::size_t memory_ = 0;
    std::size_t at_ = 0;
    std::vector<Value> stack_;
    std::unordered_map<std::uint32_t, Value> memo_;
    // Their memory grows by what is added.
    std::deque<std::vector<Value>> tuples_;
    std::deque<std::vector<std::pair<std::string_view, Value>>> dictionaries_;
    std::deque<Storage> storages_;
    std::deque<StoredTensor> tensors_;
};

}  // namespace

std::map<std::string, StoredTensor> unpickle_tensors(
    const std::string& path, const std::map<std::string_view, std::span<const std::byte>>& archive,
    std::string_view folder, std::span<const std::byte> program) {
    return Unpickler(path, archive, folder, program).run();
}

}  // namespace llama
