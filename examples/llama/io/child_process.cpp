// SPDX-License-Identifier: MIT
#include "llama/io/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "llama/io/file.hpp"

namespace llama {

namespace {

class FileActions {
public:
    FileActions() { ::posix_spawn_file_actions_init(&actions_); }
    FileActions(const FileActions&) = delete;
    FileActions& operator=(const FileActions&) = delete;
    ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }

    void nothing(int descriptor, int mode) {
        ::posix_spawn_file_actions_addopen(&actions_, descriptor, "/dev/null", mode, 0);
    }
    void from(int source, int descriptor) { ::posix_spawn_file_actions_adddup2(&actions_, source, descriptor); }
    const posix_spawn_file_actions_t* get() const { return &actions_; }

private:
    posix_spawn_file_actions_t actions_{};
};

// A child that is not left behind.
class Child {
public:
    Child(std::vector<char*>& arguments, std::vector<char*>& variables, const FileActions& actions) {
        const int error =
            ::posix_spawnp(&process_, arguments[0], actions.get(), nullptr, arguments.data(), variables.data());
        if (error != 0) throw FileError(arguments[0], std::strerror(error));
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        if (process_ <= 0) return;
        end();
        over(0);
    }

    void end() const { ::kill(process_, SIGTERM); }

    // Whether it is over; `options` as of waitpid().
    bool over(int options = WNOHANG) {
        int status = 0;
        pid_t found = 0;
        while ((found = ::waitpid(process_, &status, options)) < 0 && errno == EINTR) {
        }
        if (found == 0) return false;
        status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        process_ = 0;
        return true;
    }
    int status() const { return status_; }

private:
    pid_t process_ = 0;
    int status_ = 0;
};

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> all;
    all.reserve(words.size() + 1);
    for (std::string& word : words) all.push_back(word.data());
    all.push_back(nullptr);
    return all;
}

std::vector<std::string> variables_with(const std::vector<std::pair<std::string, std::string>>& added) {
    std::vector<std::string> all;
    for (char** variable = environ; *variable != nullptr; ++variable) {
        const std::string_view text(*variable);
        const std::string_view name = text.substr(0, text.find('='));
        bool replaced = false;
        for (const auto& [key, value] : added) replaced = replaced || key == name;
        if (!replaced) all.emplace_back(text);
    }
    for (const auto& [key, value] : added) all.push_back(key + "=" + value);
    return all;
}

}  // namespace

ChildResult run_child(const std::vector<std::string>& command,
                      const std::vector<std::pair<std::string, std::string>>& environment,
                      const std::function<bool()>& wait) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw FileError(command.front(), std::strerror(errno));
    const Descriptor messages(ends[0]);
    Descriptor child_end(ends[1]);
    FileActions actions;
    actions.nothing(STDIN_FILENO, O_RDONLY);
    actions.nothing(STDOUT_FILENO, O_WRONLY);
    actions.from(child_end.number(), STDERR_FILENO);
    std::vector<std::string> words = command;
    std::vector<std::string> variables = variables_with(environment);
    std::vector<char*> argument_pointers = pointers(words);
    std::vector<char*> variable_pointers = pointers(variables);
    ::fcntl(messages.number(), F_SETFL, O_NONBLOCK);
    Child child(argument_pointers, variable_pointers, actions);
    child_end = Descriptor();

    ChildResult result;
    constexpr std::size_t most = 1 << 16;
    // Not until the end of what it writes: a process that it leaves behind might hold that up.
    for (bool over = false; !over;) {
        if (!wait()) child.end();
        struct pollfd source{messages.number(), POLLIN, 0};
        ::poll(&source, 1, 100);
        over = child.over();
        char buffer[4096];
        ssize_t count = 0;
        while ((count = ::read(messages.number(), buffer, sizeof buffer)) > 0) {
            result.message.append(buffer, static_cast<std::size_t>(count));
        }
        if (result.message.size() > 2 * most) result.message.erase(0, result.message.size() - most);
        if (count == 0 && !over) over = child.over(0);
    }
    result.status = child.status();
    return result;
}

}  // namespace llama
