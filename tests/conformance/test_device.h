// A back end under test, and tensors that travel to it. Device memory is touched through
// Backend::Allocate and Backend::Copy only, so that the same cases run on any back end.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/registry.h"

namespace gale::test {

/// Values as the device will hold them: already rounded to `dtype`.
struct HostTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> dims;
  std::vector<double> values;

  int64_t dim(size_t i) const { return dims[i]; }
  double& at(int64_t row, int64_t column) {
    return values[static_cast<size_t>(row * dims.back() + column)];
  }
  double at(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * dims.back() + column)];
  }
};

/// Nearest value of `dtype`; through f32, as devices get there.
double RoundTo(DType dtype, double value);
/// Unit roundoff: half the distance from 1 to the next value.
double Roundoff(DType dtype);

HostTensor Tensor(DType dtype, std::vector<int64_t> dims, std::vector<double> values);
HostTensor Zeros(DType dtype, std::vector<int64_t> dims);
/// Normal with the given standard deviation (f16: multiples of 2^-9 below 2 in magnitude).
HostTensor RandomTensor(std::mt19937_64& random, DType dtype, std::vector<int64_t> dims,
                        double deviation = 1);

/// A tensor in device memory. With `row_padding`, rows of the first dimension lie apart, and the
/// gap is filled with a pattern (a NaN in every float type) that must survive.
class DeviceTensor {
 public:
  const TensorView& view() const { return view_; }

 private:
  friend class Device;
  Buffer buffer_;
  TensorView view_;
  int64_t row_padding_ = 0;
};

class Device {
 public:
  explicit Device(std::string name, const BackendOptions& options = {});

  const std::string& name() const { return name_; }
  Backend& backend() { return *backend_; }
  Stream& stream() { return *stream_; }

  Buffer Allocate(size_t bytes);
  DeviceTensor Upload(const HostTensor& host, int64_t row_padding = 0);
  /// Waits for the stream. Fails the test when padding was overwritten.
  HostTensor Download(const DeviceTensor& tensor);
  HostTensor Download(const TensorView& contiguous);
  void Synchronize();

 private:
  std::string name_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace gale::test
