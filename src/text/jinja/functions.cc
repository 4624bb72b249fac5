// The global functions and the namespace object.
#include <array>
#include <ctime>

#include <fmt/format.h>

#include "text/jinja/builtins.h"

namespace gale::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as in Jinja's sandbox

class Function : public Object {
 public:
  using Body = Value (*)(Interpreter& interpreter, const CallArguments& arguments);
  explicit Function(Body body) : body_(body) {}
  std::string_view type_name() const override { return "function"; }
  bool is_callable() const override { return true; }
  Value Call(Interpreter& interpreter, const CallArguments& arguments) override {
    return body_(interpreter, arguments);
  }

 private:
  Body body_;
};

class Namespace : public Object {
 public:
  explicit Namespace(Dict* attributes) : attributes_(attributes) {}
  std::string_view type_name() const override { return "Namespace"; }
  std::optional<Value> Attribute(Interpreter& /*interpreter*/, std::string_view name) override {
    const Value* value = attributes_->Find(name);
    return value == nullptr ? std::nullopt : std::optional(*value);
  }
  MarkedString Text() const override {
    MarkedString text("<Namespace ");
    text.Append(Repr(Value::Of(attributes_)));
    text.Append(">");
    return text;
  }
  void Set(std::string_view name, Value value) {
    // transformers keeps these away from Python's own.
    if (name.starts_with('_')) {
      throw TemplateError(fmt::format(
          "namespace attributes must not begin with an underscore, but got '{}'", name));
    }
    attributes_->Set(Value::String(std::string(name)), std::move(value));
  }

 private:
  Dict* attributes_;
};

/// Gives its items in turn, from the start again after the last.
class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  std::string_view type_name() const override { return "Cycler"; }
  std::optional<Value> Attribute(Interpreter& interpreter, std::string_view name) override {
    const Value self = Value::Of(static_cast<Object*>(this));
    if (name == "current") return items_[position_];
    if (name == "next") return BindMethod(interpreter, self, name, &Next);
    if (name == "reset") return BindMethod(interpreter, self, name, &Reset);
    return std::nullopt;
  }

 private:
  static Value Next(Interpreter& /*interpreter*/, const Value& self,
                    const CallArguments& /*args*/) {
    auto& cycler = static_cast<Cycler&>(self.AsObject());
    const size_t now = cycler.position_;
    cycler.position_ = (now + 1) % cycler.items_.size();
    return cycler.items_[now];
  }
  static Value Reset(Interpreter& /*interpreter*/, const Value& self,
                     const CallArguments& /*args*/) {
    static_cast<Cycler&>(self.AsObject()).position_ = 0;
    return Value::None();
  }

  std::vector<Value> items_;
  size_t position_ = 0;
};

/// Nothing the first time, then its separator.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  bool is_callable() const override { return true; }
  Value Call(Interpreter& interpreter, const CallArguments& /*arguments*/) override {
    if (used_) return separator_;
    used_ = true;
    return interpreter.NewString("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

template <class T, class... Args>
Value NewObject(Interpreter& interpreter, Args&&... args) {
  interpreter.Charge(sizeof(T));
  return Value::Of(
      static_cast<Object*>(interpreter.heap().NewObject<T>(std::forward<Args>(args)...)));
}

Value Range(Interpreter& interpreter, const CallArguments& arguments) {
  arguments.CheckPositional("range", 1, 3);
  const bool one = arguments.positional.size() == 1;
  const int64_t start = one ? 0 : arguments.Int(0, "start", 0);
  const int64_t stop = arguments.Int(one ? 0 : 1, "stop", 0);
  const int64_t step = arguments.Int(2, "step", 1);
  if (step == 0) throw TemplateError("range() arg 3 must not be zero");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) {
      throw TemplateError(fmt::format("range() of more than {} numbers", kMaxRange));
    }
    items.push_back(Value::Int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  const Value range = interpreter.NewList(std::move(items), List::Shape::kRange);
  range.AsList().SetRange(start, stop, step);
  return range;
}

Value MakeDict(Interpreter& interpreter, const CallArguments& arguments) {
  Dict* dict = interpreter.heap().NewDict();
  interpreter.Charge(sizeof(Dict) + arguments.named.size() * sizeof(Value));
  const Value result = Value::Of(dict);
  arguments.CheckPositional("dict", 0, 1, /*any_named=*/true);
  const Value from = arguments.positional.empty() ? Value() : arguments.positional[0];
  if (from.is_dict()) {
    for (const auto& [key, value] : from.AsDict().entries()) dict->Set(key, value);
  } else {
    for (const Value& pair : interpreter.Iterate(from)) {
      const std::vector<Value> parts = interpreter.Iterate(pair);
      if (parts.size() != 2) throw TemplateError("dict() expects pairs");
      dict->Set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) dict->Set(interpreter.NewString(name), value);
  return result;
}

Value MakeNamespace(Interpreter& interpreter, const CallArguments& arguments) {
  const Value result = NewObject<Namespace>(interpreter, interpreter.heap().NewDict());
  const Value attributes = MakeDict(interpreter, arguments);
  for (const auto& [key, value] : attributes.AsDict().entries()) {
    SetNamespaceAttribute(result, ExpectString(key, "namespace()").bytes(), value);
  }
  return result;
}

Value RaiseException(Interpreter& /*interpreter*/, const CallArguments& arguments) {
  throw TemplateError(ToText(arguments.Get(0, "message")).bytes());
}

Value StrftimeNow(Interpreter& interpreter, const CallArguments& arguments) {
  constexpr size_t kMaxFormatBytes = 256;
  const std::string& format = ExpectString(arguments.Get(0, "format"), "strftime_now").bytes();
  if (format.size() > kMaxFormatBytes)
    throw TemplateError("strftime_now(): the format is too long");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 4096> buffer{};
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  return interpreter.NewString(std::string_view(buffer.data(), size));
}

Value MakeCycler(Interpreter& interpreter, const CallArguments& arguments) {
  arguments.CheckPositional("cycler", 1, SIZE_MAX);
  return NewObject<Cycler>(interpreter, arguments.positional);
}

Value MakeJoiner(Interpreter& interpreter, const CallArguments& arguments) {
  arguments.Check("joiner", {"sep"});
  const bool given = arguments.Has(0, "sep");
  return NewObject<Joiner>(interpreter, given ? arguments.Get(0, "sep") : Value::String(", "));
}

}  // namespace

void SetNamespaceAttribute(const Value& object, std::string_view name, Value value) {
  auto* space = object.is_object() ? dynamic_cast<Namespace*>(&object.AsObject()) : nullptr;
  if (space == nullptr) throw TemplateError("cannot assign attribute on non-namespace object");
  space->Set(name, std::move(value));
}

void AddGlobalFunctions(Interpreter& interpreter) {
  static constexpr std::pair<std::string_view, Function::Body> kFunctions[] = {
      {"range", Range},
      {"dict", MakeDict},
      {"namespace", MakeNamespace},
      {"raise_exception", RaiseException},
      {"strftime_now", StrftimeNow},
      {"cycler", MakeCycler},
      {"joiner", MakeJoiner},
  };
  for (const auto& [name, body] : kFunctions) {
    interpreter.globals().Set(name, NewObject<Function>(interpreter, body));
  }
}

}  // namespace gale::jinja
