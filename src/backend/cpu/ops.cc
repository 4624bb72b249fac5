#include "backend/cpu/ops.h"

#include <cstdlib>
#include <new>

namespace gale::cpu {

void Scratch::Free::operator()(void* p) const { std::free(p); }

float* Scratch::Floats(int64_t n) {
  if (n > capacity_) {
    constexpr int64_t kLine = 64;
    const int64_t bytes = (n * static_cast<int64_t>(sizeof(float)) + kLine - 1) / kLine * kLine;
    data_.reset();
    data_.reset(std::aligned_alloc(kLine, static_cast<size_t>(bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
    capacity_ = n;
  }
  return static_cast<float*>(data_.get());
}

}  // namespace gale::cpu
