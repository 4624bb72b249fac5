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
struct BigInteger;
struct CallArguments;

/// Whatever has attributes of its own or can be called: namespaces, macros, `loop`, methods.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  /// Nothing when there is no such attribute.
  virtual std::optional<Value> Attribute(Interpreter& interpreter, std::string_view name);
  virtual bool is_callable() const { return false; }
  virtual MarkedString Text() const;  ///< Python's repr()
  virtual Value Call(Interpreter& interpreter, const CallArguments& arguments);
};

/// Small and cheap to copy. Lists, dicts and objects belong to the Heap of their rendering, so that
/// values nested without end do not recurse when they go; strings are shared.
class Value {
 public:
  enum class Kind {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kDict,
    kObject,
    kBigInt
  };

  Value() = default;  ///< undefined
  static Value Undefined(std::string what) {
    return Value(UndefinedRep{std::make_shared<const std::string>(std::move(what))});
  }
  static Value None() { return Value(std::monostate()); }
  static Value Bool(bool value) { return Value(value); }
  static Value Int(int64_t value) { return Value(value); }
  /// An integer outside of 64 bits, and only such; see integer.h.
  static Value BigInt(std::shared_ptr<const BigInteger> value) { return Value(std::move(value)); }
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
  bool is_int() const { return kind() == Kind::kInt || is_big_int(); }
  bool is_big_int() const { return kind() == Kind::kBigInt; }
  bool is_float() const { return kind() == Kind::kFloat; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_list() const {
    return kind() == Kind::kList;
  }  ///< tuples, ranges, views and generators too
  bool is_dict() const { return kind() == Kind::kDict; }
  bool is_object() const { return kind() == Kind::kObject; }
  /// Numbers in Python's sense: booleans count as 0 and 1.
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_integral() const { return is_bool() || is_int(); }

  bool AsBool() const { return std::get<bool>(rep_); }
  /// Throws for an integer outside of 64 bits, which no index, count or width can be.
  int64_t AsInt() const;
  /// Throws for an integer outside of the range of a double.
  double AsFloat() const;
  const BigInteger& AsBigInt() const { return *std::get<std::shared_ptr<const BigInteger>>(rep_); }
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
                           std::shared_ptr<const MarkedString>, List*, Dict*, Object*,
                           std::shared_ptr<const BigInteger>>;
  explicit Value(Rep rep) : rep_(std::move(rep)) {}

  Rep rep_;
};

/// Python's sequences and iterables over values.
class List {
 public:
  enum class Shape {
    kList,
    kTuple,
    kGroup,  ///< a tuple (grouper, list) with these as attributes, as groupby makes them
    kRange,
    kKeys,  ///< dict views: they have a length, but no elements by index
    kValues,
    kItems,
    kGenerator,  ///< can be iterated once, has neither length nor elements
  };
  explicit List(std::vector<Value> values, Shape list_shape = Shape::kList)
      : items(std::move(values)), shape(list_shape) {}

  bool is_tuple() const { return shape == Shape::kTuple || shape == Shape::kGroup; }
  bool is_indexed() const { return shape <= Shape::kRange; }
  bool is_generator() const { return shape == Shape::kGenerator; }
  void SetRange(int64_t start, int64_t stop, int64_t step) {
    range_start = start;
    range_stop = stop;
    range_step = step;
  }

  std::vector<Value> items;
  Shape shape;
  // Of a range, beside its items.
  int64_t range_start = 0, range_stop = 0, range_step = 1;
};

/// Keeps insertion order. Keys are what Python can hash: strings, numbers, booleans, None, tuples
/// of these; 1, 1.0 and True are one key.
class Dict {
 public:
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  void Set(const Value& key, Value value);
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, size_t> index_;  ///< by HashKey
};

/// Owns the containers of one rendering.
class Heap {
 public:
  List* NewList(std::vector<Value> items, List::Shape shape = List::Shape::kList) {
    lists_.push_back(std::make_unique<List>(std::move(items), shape));
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
  /// Throws when one of the first `num_required` of `names` was not given, or anything besides
  /// `names` was, or one twice.
  void Check(std::string_view function, std::initializer_list<std::string_view> names,
             size_t num_required = 0) const;
  /// Throws for fewer or more positional arguments, and for named ones unless any are taken.
  void CheckPositional(std::string_view function, size_t least, size_t most,
                       bool any_named = false) const;
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
/// str.isprintable() of one character.
bool IsPrintable(char32_t c);
/// The number of characters in valid UTF-8.
size_t NumCharacters(std::string_view text);

}  // namespace gale::jinja
