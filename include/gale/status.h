// Expected failures as values: the error type of every public call.
// Programmer errors are CHECKs (src/base/check.h); what a user, a file or a full machine
// can cause is a Result whose message says what, expected, got and how to fix it.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace gale {

enum class ErrorCode {
  kInvalidArgument,    ///< the caller's input is wrong; the same call fails again
  kNotFound,           ///< a file, model or id does not exist
  kUnsupported,        ///< understood, but this build or device cannot do it
  kResourceExhausted,  ///< memory, queue or context is full; may succeed later or smaller
  kCancelled,          ///< the caller gave up
  kDeadlineExceeded,   ///< it was not done by the time that the caller had set
  kDataCorrupt,        ///< a file contradicts itself or its format
  kDevice,             ///< the device failed; what was in flight on it is lost
  kInternal,           ///< a bug in Gale
};

/// The field's lower-case name of `code`, for logs and JSON ("invalid_argument").
std::string_view ErrorCodeName(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  ///< one sentence or two: what, expected, got, where, how to fix
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// Builds the failing branch of a Result: `return MakeError(ErrorCode::kNotFound, "...");`
inline tl::unexpected<Error> MakeError(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace gale
