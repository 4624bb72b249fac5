// What a template computes with: Python's values, as far as templates see them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/marked_string.h"

namespace gale::jinja {

class Interpreter;
class Value;
class List;
class Dict;
struct CallArguments;

/// Whatever has attributes of its own or can be called: namespaces, macros, `loop`, methods.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  /// Nothing when there is no such attribute.
  virtual std::optional<Value> Attribute(Interpreter& interpreter, std::string_view name);
  virtual bool is_callable() const { return false; }
  virtual Value Call(Interpreter& interpreter, const CallArguments& arguments);
};

/// Small and cheap to copy. Lists, dicts and objects belong to the Heap of their rendering, so that
/// values which contain themselves neither leak nor recurse when they go; strings are shared.
class Value {
 public:
  enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kDict, kObject };

  Value() = default;  ///< undefined
  static Value Undefined(std::string what) {
    return Value(UndefinedRep{std::make_shared<const std::string>(std::move(what))});
  }
  static Value None() { return Value(std::monostate()); }
  static Value Bool(bool value) { return Value(value); }
  static Value Int(int64_t value) { return Value(value); }
  static Value Float(double value) { return Value(value); }
  static Value String(std::string bytes) { return String(MarkedString(std::move(bytes))); }
  static Value String(MarkedString text) {
    return Value(std::make_shared<const MarkedString>(std::move(text)));
  }
  static Value Of(List* list) { return Value(list); }
  static Value Of(Dict* dict) { return Value(dict); }
  static Value Of(Object* object) { return Value(object); }

  Kind kind() const { return static_cast<Kind>(rep_.index()); }
  bool is_undefined() const { return kind() == Kind::kUndefined; }
  bool is_none() const { return kind() == Kind::kNone; }
  bool is_bool() const { return kind() == Kind::kBool; }
  bool is_int() const { return kind() == Kind::kInt; }
  bool is_float() const { return kind() == Kind::kFloat; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_list() const { return kind() == Kind::kList; }  ///< tuples too
  bool is_dict() const { return kind() == Kind::kDict; }
  bool is_object() const { return kind() == Kind::kObject; }
  /// Numbers in Python's sense: booleans count as 0 and 1.
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_integral() const { return is_bool() || is_int(); }

  bool AsBool() const { return std::get<bool>(rep_); }
  int64_t AsInt() const { return is_bool() ? int64_t{AsBool()} : std::get<int64_t>(rep_); }
  double AsFloat() const {
    return is_float() ? std::get<double>(rep_) : static_cast<double>(AsInt());
  }
  const MarkedString& AsString() const {
    return *std::get<std::shared_ptr<const MarkedString>>(rep_);
  }
  const std::string& bytes() const { return AsString().bytes(); }
  List& AsList() const { return *std::get<List*>(rep_); }
  Dict& AsDict() const { return *std::get<Dict*>(rep_); }
  Object& AsObject() const { return *std::get<Object*>(rep_); }
  /// What is undefined, for messages: "'message' has no attribute 'name'".
  const std::string& UndefinedWhat() const;

  bool Truth() const;
  /// Python's name of the type: "str", "NoneType".
  std::string_view TypeName() const;

 private:
  struct UndefinedRep {
    std::shared_ptr<const std::string> what;
  };
  using Rep = std::variant<UndefinedRep, std::monostate, bool, int64_t, double,
                           std::shared_ptr<const MarkedString>, List*, Dict*, Object*>;
  explicit Value(Rep rep) : rep_(std::move(rep)) {}

  Rep rep_;
};

class List {
 public:
  explicit List(std::vector<Value> values, bool tuple = false)
      : items(std::move(values)), is_tuple(tuple) {}
  std::vector<Value> items;
  bool is_tuple;
};

/// Keeps insertion order. Keys are what Python can hash: strings, numbers, booleans, None, tuples
/// of these; 1, 1.0 and True are one key.
class Dict {
 public:
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  void Set(const Value& key, Value value);
  bool Erase(const Value& key);
  void Clear();
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, size_t> index_;  ///< by HashKey
};

/// Owns the containers of one rendering.
class Heap {
 public:
  List* NewList(std::vector<Value> items, bool is_tuple = false) {
    lists_.push_back(std::make_unique<List>(std::move(items), is_tuple));
    return lists_.back().get();
  }
  Dict* NewDict() {
    dicts_.push_back(std::make_unique<Dict>());
    return dicts_.back().get();
  }
  template <class T, class... Args>
  T* NewObject(Args&&... args) {
    auto object = std::make_unique<T>(std::forward<Args>(args)...);
    T* pointer = object.get();
    objects_.push_back(std::move(object));
    return pointer;
  }

 private:
  std::vector<std::unique_ptr<List>> lists_;
  std::vector<std::unique_ptr<Dict>> dicts_;
  std::vector<std::unique_ptr<Object>> objects_;
};

/// Arguments of a call, evaluated.
struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// The argument at `index` or called `name`; undefined when it was not given.
  Value Get(size_t index, std::string_view name) const;
  bool Has(size_t index, std::string_view name) const;
  int64_t Int(size_t index, std::string_view name, int64_t fallback) const;
  bool Bool(size_t index, std::string_view name, bool fallback) const;
  /// Throws when more than `max_positional` or a name not among `names` was given.
  void Check(std::string_view function, std::initializer_list<std::string_view> names) const;
};

// All of these throw TemplateError; recursion into containers that contain themselves is bounded.

bool Equal(const Value& a, const Value& b);
/// -1, 0, 1; throws where Python has no order between the two.
int Compare(const Value& a, const Value& b);
/// Whether `needle` is an element, key or substring of `haystack`.
bool Contains(const Value& haystack, const Value& needle);
/// Python's str(): what {{ }} prints. Undefined prints nothing.
MarkedString ToText(const Value& value);
/// Python's repr().
MarkedString Repr(const Value& value);
/// Python's repr of a float: the shortest digits that read back the same.
std::string FloatRepr(double number);
/// The number of characters in valid UTF-8.
size_t NumCharacters(std::string_view text);

}  // namespace gale::jinja
