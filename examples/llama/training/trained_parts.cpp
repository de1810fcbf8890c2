// SPDX-License-Identifier: MIT
#include "llama/training/trained_parts.hpp"

#include <algorithm>

#include "llama/formats/hugging_face.hpp"

namespace llama {

TrainedParts::TrainedParts(std::span<const std::string> parts) {
    for (const std::string& part : parts) parts_.set(find(part));
}

TrainedParts TrainedParts::all() {
    TrainedParts parts;
    parts.parts_.set();
    return parts;
}

TrainedParts TrainedParts::of_adapter() {
    const std::string parts[] = {"q", "k", "v", "o", "embedding", "norms"};
    return TrainedParts(parts);
}

std::size_t TrainedParts::find(std::string_view part) {
    return static_cast<std::size_t>(std::find(names.begin(), names.end(), part) - names.begin());
}

std::size_t TrainedParts::part_of(std::string_view tensor) {
    if (tensor == embedding_name) return find("embedding");
    if (tensor == classifier_name) return find("classifier");
    for (std::size_t i = 0; i < projections; ++i) {
        if (tensor.find("." + std::string(names[i]) + "_proj.") != std::string_view::npos) return i;
    }
    return find("norms");
}

bool TrainedParts::contain_tensor(std::string_view tensor) const { return parts_.test(part_of(tensor)); }

bool TrainedParts::is_projection(std::string_view tensor) {
    return part_of(tensor) < projections && tensor.ends_with(".weight");
}

bool TrainedParts::contain(std::string_view part) const { return parts_.test(find(part)); }

bool TrainedParts::contain_a_projection() const {
    return std::any_of(names.begin(), names.begin() + projections, [&](auto name) { return contain(name); });
}

std::vector<std::string> TrainedParts::list() const {
    std::vector<std::string> list;
    for (const std::string_view name : names) {
        if (contain(name)) list.emplace_back(name);
    }
    return list;
}

}  // namespace llama
