#include "hub/digest.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/check.h"

namespace gale {

struct Digest::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

DigestKind FindDigestKind(std::string_view blob_name) {
  const bool is_hex = std::all_of(blob_name.begin(), blob_name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (is_hex && blob_name.size() == 64) return DigestKind::kSha256;
  if (is_hex && blob_name.size() == 40) return DigestKind::kGitSha1;
  return DigestKind::kNone;
}

Digest::Digest(DigestKind kind, uint64_t file_bytes) {
  if (kind == DigestKind::kNone) return;
  context_ = std::make_unique<Context>();
  const EVP_MD* algorithm = kind == DigestKind::kSha256 ? EVP_sha256() : EVP_sha1();
  GALE_CHECK(EVP_DigestInit_ex(context_->evp, algorithm, nullptr) == 1);
  if (kind != DigestKind::kGitSha1) return;
  const std::string header = fmt::format("blob {}", file_bytes);
  Update(std::as_bytes(std::span(header.c_str(), header.size() + 1)));  // the zero belongs to it
}

Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;
Digest::~Digest() = default;

void Digest::Update(std::span<const std::byte> bytes) {
  if (!context_) return;
  GALE_CHECK(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}

std::string Digest::Hex() {
  if (!context_) return "";
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes = {};
  unsigned size = 0;
  GALE_CHECK(EVP_DigestFinal_ex(context_->evp, bytes.data(), &size) == 1);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace gale
