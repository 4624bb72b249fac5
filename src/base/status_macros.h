// Propagation of Result errors without nesting.
#pragma once

#include <utility>

#include "gale/status.h"

#define GALE_CONCAT_INNER(a, b) a##b
#define GALE_CONCAT(a, b) GALE_CONCAT_INNER(a, b)

/// Returns from the enclosing function with the error of `expr`, a Status or Result, if it has one.
#define GALE_RETURN_IF_ERROR(expr)                                            \
  do {                                                                        \
    if (auto gale_status = (expr); !gale_status) {                            \
      return ::tl::unexpected<::gale::Error>(std::move(gale_status).error()); \
    }                                                                         \
  } while (false)

/// `GALE_ASSIGN_OR_RETURN(auto x, Compute());`
#define GALE_ASSIGN_OR_RETURN(lhs, expr) \
  GALE_ASSIGN_OR_RETURN_IMPL(GALE_CONCAT(gale_result_, __LINE__), lhs, expr)
#define GALE_ASSIGN_OR_RETURN_IMPL(result, lhs, expr)                  \
  auto result = (expr);                                                \
  if (!result) {                                                       \
    return ::tl::unexpected<::gale::Error>(std::move(result).error()); \
  }                                                                    \
  lhs = *std::move(result)
