// SPDX-License-Identifier: MIT
#include "llama/program/line_reader.hpp"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <stdexcept>

#include "llama/io/file.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

// Whether a signal came that ends the waiting for input.
ssize_t read_some(char* bytes, std::size_t most) {
    while (true) {
        const ssize_t count = ::read(STDIN_FILENO, bytes, most);
        if (count >= 0 || errno != EINTR || Interrupt::received()) return count;
    }
}

}  // namespace

// libedit, which knows characters by the locale.
class LineReader::Editor {
public:
    Editor() {
        std::setlocale(LC_CTYPE, "");
        if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
        editor_ = ::el_init("freqkv-llama", stdin, stdout, stderr);
        history_ = ::history_init();
        if (editor_ == nullptr || history_ == nullptr) throw std::runtime_error("the terminal cannot be used");
        HistEvent event;
        ::history(history_, &event, H_SETSIZE, 1000);
        ::history(history_, &event, H_SETUNIQUE, 1);
        ::el_set(editor_, EL_CLIENTDATA, this);
        ::el_set(editor_, EL_PROMPT, &Editor::prompt);
        ::el_set(editor_, EL_EDITOR, "emacs");
        ::el_set(editor_, EL_HIST, ::history, history_);
        ::el_set(editor_, EL_SIGNAL, 0);
        ::el_set(editor_, EL_GETCFN, &Editor::read_character);
        ::el_source(editor_, nullptr);  // the user's own settings, ~/.editrc
    }
    Editor(const Editor&) = delete;
    Editor& operator=(const Editor&) = delete;
    ~Editor() {
        if (history_ != nullptr) ::history_end(history_);
        if (editor_ != nullptr) ::el_end(editor_);
    }

    Result read(const std::string& prompt, std::string& line) {
        prompt_ = prompt;
        ::el_resize(editor_);
        int count = 0;
        const char* const text = ::el_gets(editor_, &count);
        if (Interrupt::received()) return Result::interrupted;
        if (text == nullptr || count <= 0) return Result::end;
        line.assign(text, static_cast<std::size_t>(count));
        while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
        if (!line.empty()) {
            HistEvent event;
            ::history(history_, &event, H_ENTER, line.c_str());
        }
        return Result::line;
    }

private:
    static Editor& self(EditLine* editor) {
        void* data = nullptr;
        ::el_get(editor, EL_CLIENTDATA, &data);
        return *static_cast<Editor*>(data);
    }

    static char* prompt(EditLine* editor) { return self(editor).prompt_.data(); }

    // Its own would go on after a signal. What is no character is left out.
    static int read_character(EditLine* /*editor*/, wchar_t* character) {
        std::mbstate_t state{};
        while (true) {
            char byte = 0;
            const ssize_t count = read_some(&byte, 1);
            if (count <= 0) return static_cast<int>(count);
            const std::size_t length = std::mbrtowc(character, &byte, 1, &state);
            if (length == static_cast<std::size_t>(-2)) continue;
            if (length != static_cast<std::size_t>(-1)) return 1;
            state = {};
        }
    }

    EditLine* editor_ = nullptr;
    History* history_ = nullptr;
    std::string prompt_;
};

LineReader::LineReader() {
    if (::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1) editor_ = std::make_unique<Editor>();
}

LineReader::~LineReader() = default;

LineReader::Result LineReader::read(const std::string& prompt, std::string& line) {
    return editor_ != nullptr ? editor_->read(prompt, line) : read_plain(line);
}

LineReader::Result LineReader::read_plain(std::string& line) {
    constexpr std::size_t most = std::size_t{1} << 24;
    while (true) {
        const std::size_t end = rest_.find('\n');
        if (end != std::string::npos || (ended_ && !rest_.empty())) {
            line = rest_.substr(0, end);
            rest_.erase(0, end == std::string::npos ? rest_.size() : end + 1);
            if (line.ends_with('\r')) line.pop_back();
            return Result::line;
        }
        if (ended_) return Result::end;
        if (rest_.size() > most) throw FileError("standard input", "a line of more than 16 MiB");
        char bytes[65536];
        const ssize_t count = read_some(bytes, sizeof bytes);
        if (count < 0 && errno == EINTR) return Result::interrupted;
        if (count < 0) throw FileError("standard input", std::strerror(errno));
        ended_ = count == 0;
        rest_.append(bytes, static_cast<std::size_t>(count));
    }
}

}  // namespace llama
