// CHECKs for programmer errors: a broken promise inside Gale ends the process with both values.
// What users, files or capacity can cause is never a CHECK (see gale/status.h).
#pragma once

#include <string>

#include <fmt/format.h>

namespace gale::internal {

[[noreturn]] void CheckFailed(const char* file, int line, const std::string& what);

template <class A, class B>
std::string CompareFailure(const char* expression, const A& a, const B& b) {
  return fmt::format("{} ({} vs {})", expression, a, b);
}

}  // namespace gale::internal

#define GALE_CHECK(condition)                                        \
  do {                                                               \
    if (!(condition)) [[unlikely]] {                                 \
      ::gale::internal::CheckFailed(__FILE__, __LINE__, #condition); \
    }                                                                \
  } while (false)

#define GALE_CHECK_OP(a, op, b)                                                 \
  do {                                                                          \
    const auto& gale_a = (a);                                                   \
    const auto& gale_b = (b);                                                   \
    if (!(gale_a op gale_b)) [[unlikely]] {                                     \
      ::gale::internal::CheckFailed(                                            \
          __FILE__, __LINE__,                                                   \
          ::gale::internal::CompareFailure(#a " " #op " " #b, gale_a, gale_b)); \
    }                                                                           \
  } while (false)

#define GALE_CHECK_EQ(a, b) GALE_CHECK_OP(a, ==, b)
#define GALE_CHECK_NE(a, b) GALE_CHECK_OP(a, !=, b)
#define GALE_CHECK_LT(a, b) GALE_CHECK_OP(a, <, b)
#define GALE_CHECK_LE(a, b) GALE_CHECK_OP(a, <=, b)
#define GALE_CHECK_GT(a, b) GALE_CHECK_OP(a, >, b)
#define GALE_CHECK_GE(a, b) GALE_CHECK_OP(a, >=, b)

/// For checks on hot paths: only in builds without NDEBUG.
#ifdef NDEBUG
#define GALE_DCHECK(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#else
#define GALE_DCHECK(condition) GALE_CHECK(condition)
#endif
