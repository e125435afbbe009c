// JSON as a deployment's manifest has it, read into values. Knows no deployment.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// A value of JSON. An object is its names beside its items.
struct Json {
  enum class Kind { null, boolean, number, text, list, object } kind = Kind::null;
  double number = 0;  // of a boolean: 0 or 1
  std::string text;
  std::vector<std::string> names;
  std::vector<Json> items;

  const Json* find(const std::string& name) const {
    const auto at = std::find(names.begin(), names.end(), name);
    return at == names.end() ? nullptr : &items[static_cast<std::size_t>(at - names.begin())];
  }
  const Json& at(const std::string& name) const {
    if (const Json* found = find(name)) return *found;
    throw std::runtime_error("the manifest has no \"" + name + "\" where one is needed");
  }
  int integer(const std::string& name) const { return static_cast<int>(at(name).number); }
};

class JsonReader {
 public:
  explicit JsonReader(std::string text) : text_(std::move(text)) {}

  Json read() {
    Json value = read_value();
    if (peek() != '\0') fail();
    return value;
  }

 private:
  std::string text_;
  std::size_t at_ = 0;

  [[noreturn]] void fail() const {
    throw std::runtime_error("the manifest is damaged at byte " + std::to_string(at_));
  }
  char peek() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void expect(const char* word) {
    const std::size_t length = std::strlen(word);
    if (text_.compare(at_, length, word) != 0) fail();
    at_ += length;
  }

  Json read_value() {
    Json value;
    switch (peek()) {
      case '{':
      case '[':
        read_items(value);
        break;
      case '"':
        value.kind = Json::Kind::text;
        value.text = read_text();
        break;
      case 't':
        expect("true");
        value.kind = Json::Kind::boolean;
        value.number = 1;
        break;
      case 'f':
        expect("false");
        value.kind = Json::Kind::boolean;
        break;
      case 'n':
        expect("null");
        break;
      default: {
        char* end = nullptr;
        value.kind = Json::Kind::number;
        value.number = std::strtod(text_.c_str() + at_, &end);
        if (end == text_.c_str() + at_) fail();
        at_ = static_cast<std::size_t>(end - text_.c_str());
      }
    }
    return value;
  }

  void read_items(Json& value) {
    const bool is_object = text_[at_++] == '{';
    const char end = is_object ? '}' : ']';
    value.kind = is_object ? Json::Kind::object : Json::Kind::list;
    if (peek() == end) {
      ++at_;
      return;
    }
    for (;;) {
      if (is_object) {
        if (peek() != '"') fail();
        value.names.push_back(read_text());
        if (peek() != ':') fail();
        ++at_;
      }
      value.items.push_back(read_value());
      const char next = peek();
      ++at_;
      if (next == end) return;
      if (next != ',') fail();
    }
  }

  std::string read_text() {
    std::string text;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        text += text_[at_];
        continue;
      }
      static const std::string escapes = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
      const char escape = ++at_ < text_.size() ? text_[at_] : '\0';
      if (escape == 'u') {
        append_utf8(text, read_code_point());
      } else if (const std::size_t which = escapes.find(escape); escape != '\0' && which != std::string::npos) {
        text += meant[which];
      } else {
        fail();
      }
    }
    if (at_ >= text_.size()) fail();
    ++at_;
    return text;
  }

  // The four digits after a `u`, and those of the other half where there are two; `at_` stays on the last digit.
  std::uint32_t read_code_point() {
    const std::uint32_t first = read_hex();
    if (first < 0xD800 || first > 0xDBFF) return first;
    ++at_;
    expect("\\");
    return 0x10000 + ((first - 0xD800) << 10) + (read_hex() - 0xDC00);
  }
  std::uint32_t read_hex() {
    if (at_ + 4 >= text_.size()) fail();
    const std::string digits = text_.substr(at_ + 1, 4);
    at_ += 4;
    return static_cast<std::uint32_t>(std::stoul(digits, nullptr, 16));
  }
  static void append_utf8(std::string& text, std::uint32_t code) {
    if (code < 0x80) {
      text += static_cast<char>(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;  // bytes after the first
    static const std::array<std::uint32_t, 4> first = {0, 0xC0, 0xE0, 0xF0};
    text += static_cast<char>(first[static_cast<std::size_t>(more)] | (code >> (6 * more)));
    for (int left = more - 1; left >= 0; --left) text += static_cast<char>(0x80 | ((code >> (6 * left)) & 0x3F));
  }
};
