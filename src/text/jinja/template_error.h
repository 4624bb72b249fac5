// How the template engine reports errors inside itself. An evaluator is nothing but expressions, so
// errors are thrown here; jinja::Template catches them all, and callers see a Result.
#pragma once

#include <stdexcept>
#include <string>

namespace gale::jinja {

/// A place in the source, counted from one; columns in characters.
struct Position {
  int line = 0;
  int column = 0;
};

class TemplateError : public std::runtime_error {
 public:
  explicit TemplateError(const std::string& message) : std::runtime_error(message) {}
  TemplateError(const std::string& message, Position position)
      : std::runtime_error(message), position_(position) {}

  Position position() const { return position_; }  ///< line 0 when not known yet

 private:
  Position position_;
};

}  // namespace gale::jinja
