// Weights on their way to a device with memory of its own: threads read files into page-locked
// buffers, from which the device copies while they read on. Layer L2 of the compute column; used by
// the weight loader.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "base/blocking_queue.h"
#include "gale/status.h"
#include "tensor/tensor_view.h"

namespace gale {

/// Elements of a file and the device memory that they go to, converted where the dtypes differ.
struct WeightStretch {
  std::span<const std::byte> source;
  DType dtype = DType::kU8;           ///< of the source
  GgmlType blocks = GgmlType::kNone;  ///< of the source, in place of elements of `dtype`
  TensorView target;                  ///< contiguous; f32 or bf16 where something is converted
};

/// A ring of two buffers for each thread: one is filled while the device copies from the other.
class WeightUploader {
 public:
  /// What is waited for together. Lives until it has been, or the uploader is gone.
  struct Ticket {
    int64_t pending = 0;  ///< pieces
  };

  WeightUploader(Backend& backend, int threads);
  /// Waits for all that was pushed.
  ~WeightUploader();
  WeightUploader(const WeightUploader&) = delete;
  WeightUploader& operator=(const WeightUploader&) = delete;

  /// Returns at once; the source and the target's memory must live until the ticket is done.
  void Push(const WeightStretch& stretch, Ticket& ticket);
  /// Errors: kResourceExhausted when there are no buffers, kDevice; after one of them nothing is
  /// copied any more.
  Status Wait(const Ticket& ticket);

 private:
  struct Piece {
    WeightStretch stretch;
    Ticket* ticket;
  };
  /// A buffer, and the piece whose copy is under way from it.
  struct Slot {
    Buffer buffer;
    std::unique_ptr<Stream> stream;
    Ticket* ticket = nullptr;
  };

  void Work();
  Status Begin(Piece& piece, Slot& slot);
  void Finish(Slot& slot);
  void Done(Ticket& ticket, const Status& status);
  bool HasFailed();

  Backend& backend_;
  BlockingQueue<Piece> queue_;
  std::mutex mutex_;  ///< of tickets and error_
  std::condition_variable changed_;
  Status error_;
  std::vector<std::thread> threads_;
};

}  // namespace gale
