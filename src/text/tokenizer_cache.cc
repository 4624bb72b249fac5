// Tokenizers of large files by way of the load cache.
#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "text/load_cache.h"
#include "text/tokenizer_impl.h"

namespace gale {
namespace {

using WriteValue =
    std::function<std::optional<std::string>(std::string_view key, const JsonValue& value)>;

/// `object` with each value as `write_value` gives it; members for which it gives nothing are left
/// out. Fails on keys that would need escapes, which tokenizer.json does not have.
Result<std::string> WriteObject(const JsonObject& object, const WriteValue& write_value) {
  std::string out = "{";
  GALE_RETURN_IF_ERROR(object.ForEach([&](std::string_view key, const JsonValue& value) -> Status {
    if (key.find_first_of("\\\"") != key.npos) return tl::unexpected(value.Wrong("a plain key"));
    if (const auto text = write_value(key, value)) {
      out += fmt::format("{}\"{}\":{}", out.size() > 1 ? "," : "", key, *text);
    }
    return {};
  }));
  return out + "}";
}

/// tokenizer.json without what the cache keeps as arrays.
Result<std::string> WithoutArrays(const JsonObject& file) {
  GALE_ASSIGN_OR_RETURN(const JsonValue model_value, file.Get("model"));
  GALE_ASSIGN_OR_RETURN(const JsonObject model_object, model_value.Object());
  GALE_ASSIGN_OR_RETURN(const std::string model,
                        WriteObject(model_object, [](std::string_view key, const JsonValue& value) {
                          const bool is_array = key == "vocab" || key == "merges";
                          return is_array ? std::nullopt : std::optional(value.Minified());
                        }));
  return WriteObject(file, [&](std::string_view key, const JsonValue& value) {
    return std::optional(key == "model" ? model : value.Minified());
  });
}

}  // namespace

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::ParseCached(std::string_view json) {
  const auto cache = text::LoadCache::For(json);
  if (cache) {
    // Whatever is wrong with the cache, the source itself is at hand.
    if (auto impl = Load(*cache)) return std::move(*impl);
  }
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(json, "tokenizer.json"));
  GALE_ASSIGN_OR_RETURN(const JsonObject file, document.root().Object());
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Impl> impl, Parse(file));
  text::CacheWriter writer;
  if (cache) {
    const auto rest = WithoutArrays(file);
    if (rest) writer.Add(*rest);
    if (rest && impl->model->Save(&writer)) cache->Store(writer);
  }
  return impl;
}

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::Load(const text::LoadCache& cache) {
  const auto damaged = [] { return MakeError(ErrorCode::kDataCorrupt, "no sound cache file"); };
  auto reader = cache.Open();
  text::TableArray<char> rest;
  if (!reader || !reader->Read(&rest)) return damaged();
  GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                        JsonDocument::Parse({rest.data(), rest.size()}, "tokenizer cache"));
  GALE_ASSIGN_OR_RETURN(const JsonObject file, document.root().Object());
  return Parse(file, &*reader);
}

}  // namespace gale
