// What templates find ready-made: filters, tests, methods and global functions, by name.
#pragma once

#include <functional>
#include <string_view>
#include <unordered_map>

#include "text/jinja/interpreter.h"

namespace gale::jinja {

using FilterFunction = Value (*)(Interpreter& interpreter, const Value& operand,
                                 const CallArguments& arguments);
using TestFunction = bool (*)(Interpreter& interpreter, const Value& operand,
                              const CallArguments& arguments);

using FilterTable = std::unordered_map<std::string_view, FilterFunction>;

/// The filters on text; FindFilter knows them and all others.
const FilterTable& StringFilters();

/// Null when there is none of that name.
FilterFunction FindFilter(std::string_view name);
TestFunction FindTest(std::string_view name);
/// A method of str, list or dict.
FilterFunction FindMethod(const Value& object, std::string_view name);
/// A method of list or dict that would change it. As in the sandbox of transformers there are none:
/// reading one gives an undefined value, even where a dict has such a key.
bool IsMutator(const Value& object, std::string_view name);

/// A method with the object it belongs to.
Value BindMethod(Interpreter& interpreter, const Value& object, std::string_view name,
                 FilterFunction function);
/// Adds range, dict, namespace, raise_exception, strftime_now, joiner and cycler.
void AddGlobalFunctions(Interpreter& interpreter);

/// {% set ns.x = v %}: throws unless `object` is a namespace.
void SetNamespaceAttribute(const Value& object, std::string_view name, Value value);

// Shared between filters and methods.

/// json.dumps(value, ensure_ascii=False), with its indent, separators and sort_keys.
MarkedString ToJson(const Value& value, const CallArguments& arguments);
/// str.strip: of white space, or of the characters in `characters` when it is a string.
Value StripText(Interpreter& interpreter, const Value& text, const Value& characters, bool left,
                bool right);
Value ReplaceText(Interpreter& interpreter, const Value& text, const Value& from, const Value& to,
                  int64_t max_count);
Value JoinText(Interpreter& interpreter, const std::vector<Value>& items,
               const MarkedString& between);
/// kTitle begins a word behind whatever is no letter, as str.title(); kTitleWords behind space,
/// hyphens and opening brackets, as the filter.
enum class TextCase { kUpper, kLower, kTitle, kTitleWords, kCapitalize, kSwapped, kFolded };
Value ChangeCase(Interpreter& interpreter, const Value& text, TextCase text_case);
/// Lines with their ends; Python ends a line at every vertical separator of Unicode.
struct Line {
  size_t begin, end, next;  ///< bytes [begin, end), line end [end, next)
};
std::vector<Line> SplitLines(std::string_view text);
/// White space in the sense of str.isspace().
bool IsSpace(char32_t c);
/// Letters, numbers: what str.isalnum() takes.
bool IsAlphaNumeric(char32_t c);
/// The operand as a string; throws, naming `what`, when it is none.
const MarkedString& ExpectString(const Value& value, std::string_view what);

}  // namespace gale::jinja
