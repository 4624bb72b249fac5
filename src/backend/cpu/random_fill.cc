// Random numbers from a table of quantiles, for weights without a checkpoint.
#include <algorithm>

#include "backend/cpu/ops.h"
#include "base/rng.h"
#include "tensor/bf16.h"

namespace gale::cpu {
namespace {

constexpr int64_t kPerBlock = 8;  // 16-bit draws of one Philox block

template <class T>
T Store(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return ToBf16(value);
  }
}

template <class T>
void Fill(const FillRandomArgs& args, int64_t begin, int64_t end, T* out) {
  const auto* table = args.table.As<float>();
  const PhiloxKey key = {
      {static_cast<uint32_t>(args.seed), static_cast<uint32_t>(args.seed >> 32)}};
  for (int64_t i = begin; i < end; i += kPerBlock) {
    const auto block = static_cast<uint64_t>(i / kPerBlock);
    const PhiloxCounter random =
        Philox4x32({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                     static_cast<uint32_t>(args.stream), static_cast<uint32_t>(args.stream >> 32)}},
                   key);
    for (int64_t j = 0; j < std::min(kPerBlock, end - i); ++j) {
      const uint32_t draw = random.words[j / 2] >> (16 * (j % 2)) & 0xFFFFU;
      out[i + j] = Store<T>(args.mean + args.std * table[draw]);
    }
  }
}

}  // namespace

void FillRandom(Context& context, const FillRandomArgs& args) {
  CheckFillRandomArgs(args);
  constexpr int64_t kChunk = (1 << 15) * kPerBlock;
  const int64_t elements = args.out.NumElements();
  context.pool.ParallelFor((elements + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    const int64_t end = std::min(elements, begin + kChunk);
    if (args.out.dtype == DType::kF32) {
      Fill(args, begin, end, args.out.As<float>());
    } else {
      Fill(args, begin, end, args.out.As<Bf16>());
    }
  });
}

}  // namespace gale::cpu
