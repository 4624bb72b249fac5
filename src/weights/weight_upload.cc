#include "weights/weight_upload.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/status_macros.h"
#include "tensor/ggml_block.h"
#include "weights/float_convert.h"

namespace gale {
namespace {

/// A copy of so many bytes takes ten times as long as it takes to launch it.
constexpr size_t kPieceBytes = size_t{4} << 20;

size_t SourceBytes(const WeightStretch& stretch, int64_t elements) {
  return stretch.blocks == GgmlType::kNone
             ? static_cast<size_t>(elements) * DTypeBytes(stretch.dtype)
             : static_cast<size_t>(GgmlRowBytes(stretch.blocks, elements));
}

}  // namespace

WeightUploader::WeightUploader(Backend& backend, int threads) : backend_(backend) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

WeightUploader::~WeightUploader() {
  queue_.Close();
  for (std::thread& thread : threads_) thread.join();
}

void WeightUploader::Push(const WeightStretch& stretch, Ticket& ticket) {
  const int64_t elements = stretch.target.NumElements();
  const size_t element = DTypeBytes(stretch.target.dtype);
  const auto step = static_cast<int64_t>(kPieceBytes / element);  // whole blocks
  {
    const std::lock_guard lock(mutex_);
    ticket.pending += (elements + step - 1) / step;
  }
  for (int64_t begin = 0; begin < elements; begin += step) {
    const int64_t count = std::min(step, elements - begin);
    Piece piece{stretch, &ticket};
    piece.stretch.source =
        stretch.source.subspan(SourceBytes(stretch, begin), SourceBytes(stretch, count));
    piece.stretch.target = TensorView(
        static_cast<std::byte*>(stretch.target.data) + static_cast<size_t>(begin) * element,
        stretch.target.dtype, {count});
    queue_.Push(std::move(piece));
  }
}

Status WeightUploader::Wait(const Ticket& ticket) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ticket.pending == 0; });
  return error_;
}

void WeightUploader::Work() {
  std::array<Slot, 2> slots;
  for (int turn = 0;; turn ^= 1) {
    Slot& slot = slots[static_cast<size_t>(turn)];
    Finish(slot);
    std::optional<Piece> piece = queue_.TryPop();
    if (!piece) {  // whoever waits may be waiting for the last one
      Finish(slots[static_cast<size_t>(turn ^ 1)]);
      piece = queue_.Pop();
    }
    if (!piece) return;
    if (const Status status = HasFailed() ? Status() : Begin(*piece, slot); !status) {
      Done(*piece->ticket, status);
    } else if (slot.ticket == nullptr) {
      Done(*piece->ticket, {});
    }
  }
}

/// Reads and converts the piece, and lets the device copy it.
Status WeightUploader::Begin(Piece& piece, Slot& slot) {
  if (slot.stream == nullptr) {
    GALE_ASSIGN_OR_RETURN(slot.buffer, backend_.Allocate(kPieceBytes, MemoryKind::kPinnedHost));
    slot.stream = backend_.CreateStream();
  }
  const WeightStretch& stretch = piece.stretch;
  TensorView staged = stretch.target;
  staged.data = slot.buffer.data();
  if (stretch.blocks == GgmlType::kNone) {
    ConvertElements(stretch.source, stretch.dtype, staged);
  } else {
    ConvertBlocks(stretch.source, stretch.blocks, staged);
  }
  backend_.Copy(*slot.stream, stretch.target.data, staged.data, staged.Bytes());
  slot.ticket = piece.ticket;
  return {};
}

void WeightUploader::Finish(Slot& slot) {
  if (slot.ticket == nullptr) return;
  const Status status = slot.stream->Synchronize();
  Done(*std::exchange(slot.ticket, nullptr), status);
}

void WeightUploader::Done(Ticket& ticket, const Status& status) {
  const std::lock_guard lock(mutex_);
  if (!status && error_) error_ = status;
  if (--ticket.pending == 0) changed_.notify_all();
}

bool WeightUploader::HasFailed() {
  const std::lock_guard lock(mutex_);
  return !error_.has_value();
}

}  // namespace gale
