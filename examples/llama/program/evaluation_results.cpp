// SPDX-License-Identifier: MIT
#include "llama/program/evaluation_results.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <set>
#include <utility>

#include "llama/io/atomic_file.hpp"
#include "llama/io/format.hpp"

namespace llama {

namespace {

// Characters of a file's text that JSON and CSV cannot have are replaced.
std::string dump(const nlohmann::ordered_json& json, int indent) {
    return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    return quoted + "\"";
}

std::string number_text(double value) { return format("%.6g", value); }

std::string predictions(const std::vector<EvaluationRow>& rows) {
    std::set<std::string> names;
    for (const EvaluationRow& row : rows) {
        for (const auto& [name, value] : row.values) names.insert(name);
    }
    std::string text = "task,length,place,sample,question,predicted_answer,answer";
    for (const std::string& name : names) text += "," + name;
    text += "\n";
    for (const EvaluationRow& row : rows) {
        text += csv_field(row.task) +
                format(",%lld,%s,%lld,%lld,", static_cast<long long>(row.length),
                       row.place < 0 ? "" : number_text(row.place).c_str(), static_cast<long long>(row.sample),
                       static_cast<long long>(row.question)) +
                csv_field(row.prediction) + "," +
                csv_field(row.answers.empty() ? "" : dump(nlohmann::ordered_json(row.answers), -1));
        for (const std::string& name : names) {
            const auto found = row.values.find(name);
            text += "," + (found == row.values.end() ? "" : number_text(found->second));
        }
        text += "\n";
    }
    return text;
}

// What is read by others as {task: {"string_match": percent}}; a task at several lengths is several.
nlohmann::ordered_json metrics(const std::vector<EvaluationRow>& rows) {
    const std::vector<EvaluationCell> cells = cells_of(rows, false);
    nlohmann::ordered_json object = nlohmann::ordered_json::object();
    for (const EvaluationCell& cell : cells) {
        const auto same = std::count_if(cells.begin(), cells.end(),
                                        [&](const EvaluationCell& other) { return other.task == cell.task; });
        const std::string name = same > 1 ? cell.task + "_" + std::to_string(cell.length) : cell.task;
        nlohmann::ordered_json values;
        for (const auto& [key, value] : cell.values) {
            values[key == "score" ? "string_match" : key] =
                key == "score" ? std::round(value.mean * 10000) / 100 : value.mean;
        }
        object[name] = std::move(values);
    }
    return object;
}

// Nothing is nested; JSON's strings and lists are YAML's.
std::string yaml(const nlohmann::ordered_json& run) {
    std::string text;
    for (const auto& [key, value] : run.items()) text += key + ": " + dump(value, -1) + "\n";
    return text;
}

}  // namespace

std::vector<EvaluationCell> cells_of(const std::vector<EvaluationRow>& rows, bool by_place) {
    std::vector<EvaluationCell> cells;
    std::vector<std::map<std::string, std::vector<double>>> values;
    for (const EvaluationRow& row : rows) {
        const double place = by_place ? row.place : -1;
        auto at = std::find_if(cells.begin(), cells.end(), [&](const EvaluationCell& cell) {
            return cell.task == row.task && cell.length == row.length && cell.place == place;
        });
        if (at == cells.end()) {
            at = cells.insert(at, {row.task, row.length, place, 0, {}});
            values.emplace_back();
        }
        ++at->rows;
        for (const auto& [name, value] : row.values) {
            values[static_cast<std::size_t>(at - cells.begin())][name].push_back(value);
        }
    }
    for (std::size_t c = 0; c < cells.size(); ++c) {
        for (const auto& [name, all] : values[c]) {
            const auto count = static_cast<double>(all.size());
            EvaluationCell::Value& to = cells[c].values[name];
            for (const double value : all) to.mean += value / count;
            double squares = 0;
            for (const double value : all) squares += (value - to.mean) * (value - to.mean);
            if (count > 1) to.standard_error = std::sqrt(squares / (count - 1) / count);
        }
    }
    return cells;
}

nlohmann::ordered_json to_json(const EvaluationRow& row) {
    return {{"task", row.task},       {"length", row.length},     {"place", row.place},
            {"sample", row.sample},   {"question", row.question}, {"prediction", row.prediction},
            {"answers", row.answers}, {"values", row.values}};
}

EvaluationRow row_from_json(const nlohmann::json& json) {
    EvaluationRow row;
    json.at("task").get_to(row.task);
    json.at("length").get_to(row.length);
    json.at("place").get_to(row.place);
    json.at("sample").get_to(row.sample);
    json.at("question").get_to(row.question);
    json.at("prediction").get_to(row.prediction);
    json.at("answers").get_to(row.answers);
    json.at("values").get_to(row.values);
    return row;
}

nlohmann::ordered_json to_json(const EvaluationCell& cell) {
    nlohmann::ordered_json object{{"task", cell.task}, {"length", cell.length}};
    if (cell.place >= 0) object["place"] = cell.place;
    object["rows"] = cell.rows;
    for (const auto& [name, value] : cell.values) {
        object[name] = value.mean;
        object[name + "_error"] = value.standard_error;
    }
    return object;
}

void write_results(const std::string& directory, const nlohmann::ordered_json& run,
                   const std::vector<EvaluationRow>& rows) {
    const std::filesystem::path path(directory);
    AtomicFile((path / "config.yaml").string()).write(yaml(run));
    AtomicFile((path / "predictions.csv").string()).write(predictions(rows));
    AtomicFile((path / "metrics.json").string()).write(dump(metrics(rows), 2) + "\n");
}

std::string describe(const std::vector<EvaluationCell>& cells) {
    std::string text;
    for (const EvaluationCell& cell : cells) {
        text += format("%-18s %6lld", cell.task.c_str(), static_cast<long long>(cell.length));
        if (cell.place >= 0)
            text += cell.place <= 1 ? format("  depth %.2f", cell.place) : format("  distance %.0f", cell.place);
        text += format("  %4lld", static_cast<long long>(cell.rows));
        for (const auto& [name, value] : cell.values) {
            const bool percent = name == "score" || name == "agreement";
            text += percent ? format("  %s %.1f ± %.1f", name.c_str(), 100 * value.mean, 100 * value.standard_error)
                            : format("  %s %.4f ± %.4f", name.c_str(), value.mean, value.standard_error);
        }
        text += "\n";
    }
    return text;
}

}  // namespace llama
