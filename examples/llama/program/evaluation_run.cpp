// SPDX-License-Identifier: MIT
#include "llama/program/evaluation_run.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>

#include "llama/io/file.hpp"
#include "llama/io/format.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

using Rows = std::vector<EvaluationRow>;

// Rows of each item that is done.
class DoneItems {
public:
    explicit DoneItems(std::size_t count) : rows_(count), done_(count) {}

    bool has(std::size_t item) const { return done_[item]; }
    void set(std::size_t item, Rows rows) {
        rows_.at(item) = std::move(rows);
        done_[item] = true;
    }

    nlohmann::ordered_json to_json() const {
        nlohmann::ordered_json list = nlohmann::ordered_json::array();
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            if (!done_[i]) continue;
            nlohmann::ordered_json rows = nlohmann::ordered_json::array();
            for (const EvaluationRow& row : rows_[i]) rows.push_back(llama::to_json(row));
            list.push_back({i, std::move(rows)});
        }
        return list;
    }

    void read(const nlohmann::json& list, const std::string& path) {
        try {
            for (const nlohmann::json& done : list) {
                Rows rows;
                for (const nlohmann::json& row : done.at(1)) rows.push_back(row_from_json(row));
                set(done.at(0).get<std::size_t>(), std::move(rows));
            }
        } catch (const std::exception& error) {
            throw FileError(path, std::string("no partial result: ") + error.what());
        }
    }

    Rows all() && {
        Rows all;
        for (Rows& rows : rows_) {
            all.insert(all.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
        }
        return all;
    }

private:
    std::vector<Rows> rows_;
    std::vector<bool> done_;
};

// Tokens read and to be read.
class EvaluationProgress {
public:
    EvaluationProgress(Index all, Index known) : all_(all), known_(known), read_(known) {}

    void add(const EvaluationItem& item) { read_ += item.tokens; }

    void show(std::size_t done, std::size_t count) {
        if (!status_.due() || read_ == known_) return;
        const double left =
            stopwatch_.seconds() * static_cast<double>(all_ - read_) / static_cast<double>(read_ - known_);
        status_.show(format("%zu of %zu samples, %s left", done, count, format_duration(left).c_str()));
    }

private:
    Index all_, known_, read_;
    Stopwatch stopwatch_;
    StatusLine status_{false};
};

}  // namespace

std::optional<Rows> run_evaluation(const std::vector<EvaluationItem>& items, std::vector<EvaluatedModels>& workers,
                                   PartialResult* partial, bool resume) {
    DoneItems done(items.size());
    if (partial != nullptr && resume) {
        constexpr std::size_t most_of_an_item = std::size_t{1} << 20;
        const nlohmann::json state = partial->load(most_of_an_item * (items.size() + 1));
        if (!state.is_null()) done.read(state, partial->path());
    }
    Index all = 0, known = 0;
    std::size_t finished = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
        all += items[i].tokens;
        if (!done.has(i)) continue;
        known += items[i].tokens;
        ++finished;
    }
    EvaluationProgress progress(all, known);

    std::mutex mutex;  // of all below and of `done`
    std::condition_variable changed;
    std::size_t next = 0, running = workers.size();
    std::exception_ptr error;
    const auto work = [&](EvaluatedModels& models) {
        std::unique_lock lock(mutex);
        while (!error && !Interrupt::received()) {
            while (next < items.size() && done.has(next)) ++next;
            if (next == items.size()) break;
            const std::size_t mine = next++;
            lock.unlock();
            Rows rows;
            std::exception_ptr failed;
            try {
                rows = items[mine].run(models);
            } catch (...) {
                failed = std::current_exception();
            }
            lock.lock();
            if (failed) {
                error = failed;
            } else if (!Interrupt::received()) {
                done.set(mine, std::move(rows));
                progress.add(items[mine]);
                ++finished;
            }
            changed.notify_one();
        }
        --running;
        changed.notify_one();
    };
    std::vector<std::thread> threads;
    threads.reserve(workers.size());
    for (EvaluatedModels& models : workers) threads.emplace_back(work, std::ref(models));
    {
        std::unique_lock lock(mutex);
        while (running > 0) {
            changed.wait_for(lock, std::chrono::milliseconds(100));
            progress.show(finished, items.size());
            if (partial == nullptr || error) continue;
            try {
                partial->save_sometimes([&] { return done.to_json(); });
            } catch (...) {
                error = std::current_exception();
            }
        }
    }
    for (std::thread& thread : threads) thread.join();
    if (partial != nullptr && finished > 0 && (error || finished < items.size())) partial->save(done.to_json());
    if (error) std::rethrow_exception(error);
    if (finished < items.size()) return std::nullopt;
    return std::move(done).all();
}

}  // namespace llama
