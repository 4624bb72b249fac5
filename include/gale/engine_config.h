// One typed configuration for the whole engine; flags, JSON and Python arguments parse into it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gale/speculative.h"
#include "gale/status.h"

namespace gale {

enum class LoadFormat {
  kAuto,   ///< what the model folder holds
  kDummy,  ///< seeded random weights of the true shapes: speed and memory without a checkpoint
};

enum class ModelDType { kAuto, kF32, kBf16 };  ///< kAuto: the checkpoint's own

/// What plain weights of linear layers become while a model loads. The output head has 8 bits in
/// any case. Norms, biases, routers and weights that are quantized already stay as they are; so do
/// those whose inputs no block divides.
enum class LoadQuantization {
  kNone,
  kInt8,        ///< ggml's Q8_0: 32 numbers share a scale
  kInt4,        ///< ggml's Q4_0: the same
  kInt8Output,  ///< each output has a scale, and each row that meets it one of its own (W8A8)
  kInt4Group,   ///< 128 numbers (or 64 or 32) share a scale and a zero, as AWQ and GPTQ have them
  kFp8,         ///< e4m3, scales as in kInt8Output
  kFp8Block,  ///< e4m3, 128 x 128 numbers share a scale, and 128 of a row, as DeepSeek-V3 has them
};

/// How the KV cache holds keys and values. The last three are codes beside a scale for each token
/// and head, and hold 1.9 times (8 bits) and 3.7 times (4 bits) as many tokens as bf16, of heads of
/// 128.
enum class KvFormat { kF32, kBf16, kFp8, kInt8, kInt4 };

/// The numerics contract.
enum class Numerics {
  kFast,            ///< logits agree within the derived tolerance whatever the batch
  kBatchInvariant,  ///< one reduction order per row, whatever the batch, chunk, graph bucket or
                    ///< draft
};

struct EngineConfig {
  std::string model;  ///< checkpoint folder, config.json, or a preset name with kDummy
  LoadFormat load_format = LoadFormat::kAuto;
  ModelDType dtype = ModelDType::kAuto;
  LoadQuantization quantize = LoadQuantization::kNone;
  std::string device = "auto";       ///< "auto", "cpu"
  std::optional<Numerics> numerics;  ///< unset: kBatchInvariant on the CPU, where it costs nothing,
                                     ///< kFast elsewhere
  int threads = 0;                   ///< CPU compute threads; 0 = what the cgroup quota allows
  int max_model_len = 0;  ///< prompt + generated tokens of one sequence; 0 = the model's own, or
                          ///< what the KV cache holds
  size_t kv_cache_bytes = 0;  ///< 0 = room for max_num_seqs full sequences, at most a quarter of
                              ///< the host's free memory, or what the next line leaves on a GPU
  std::optional<KvFormat> kv_cache_dtype;  ///< unset: that of activations
  double gpu_memory_utilization = 0.9;     ///< share of a GPU's memory that this and all other
                                           ///< processes may take together; (0, 1]
  size_t host_kv_bytes = 0;  ///< host memory for what the KV cache gives up: prefixes that were
                             ///< evicted, and what preempted sequences have computed
  int block_tokens = 16;     ///< tokens of one KV block
  int max_num_seqs = 64;     ///< sequences running at once
  int max_num_batched_tokens = 0;  ///< token budget of one step; 0 = 512 on the CPU, on a GPU 8,192
                                   ///< or what an eighth of its free memory has scratch for
  /// Beside decodes, prompt chunks are as large as makes a step take so many times what it takes
  /// without them, as far as steps have been measured; 0: as large as the budget.
  double max_step_stretch = 0;
  int max_queued_requests = 4096;  ///< unfinished beside max_num_seqs; further ones are refused
                                   ///< with kResourceExhausted
  int max_queued_tokens = 0;       ///< no more are taken in while unfinished requests have so many
                                   ///< prompt tokens; 0 = no bound
  bool fair = true;  ///< RequestParams::client's share equally; else first come, first served
  bool take_turns = false;  ///< with `fair`: while others wait, an answer that has become long lets
                            ///< them go first
  bool enable_prefix_cache = true;
  SpeculativeConfig speculative;  ///< alters no token, only when they come
  bool overlap = true;            ///< launch step n+1 before step n's tokens are read
  double device_timeout_s = 30;   ///< a step that takes longer is given up, and the device with it;
                                  ///< the CPU is waited for
  uint64_t seed = 0;              ///< of requests without a seed, and of dummy weights

  Status Validate() const;
};

/// Devices that this build can run on, sorted; EngineConfig::device takes these and "auto".
std::vector<std::string> SupportedDevices();

}  // namespace gale
