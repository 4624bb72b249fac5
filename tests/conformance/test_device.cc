#include "conformance/test_device.h"

#include <cmath>
#include <cstring>
#include <utility>

#include <gtest/gtest.h>

#include "tensor/bf16.h"
#include "tensor/f16.h"
#include "tensor/f8.h"

namespace gale::test {
namespace {

constexpr unsigned char kPadByte = 0xFF;  // 0xFFFF and 0xFFFFFFFF are NaNs

template <class T>
void Put(T value, unsigned char* out) {
  std::memcpy(out, &value, sizeof(value));
}

template <class T>
T Take(const unsigned char* in) {
  T value;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

/// Exact for the zeros and normal values that RandomTensor makes.
F16 ToF16(double value) {
  if (value == 0) return {};
  int exponent = 0;
  const double fraction = std::frexp(std::abs(value), &exponent);  // in [0.5, 1)
  const auto mantissa = static_cast<uint16_t>(std::lround((fraction * 2 - 1) * 1024));
  const auto biased = static_cast<uint16_t>(exponent - 1 + 15);
  return {static_cast<uint16_t>((value < 0 ? 0x8000U : 0U) | biased << 10U | mantissa)};
}

void Encode(DType dtype, double value, unsigned char* out) {
  switch (dtype) {
    case DType::kF32: return Put(static_cast<float>(value), out);
    case DType::kF16: return Put(ToF16(value), out);
    case DType::kBf16: return Put(ToBf16(static_cast<float>(value)), out);
    case DType::kF8E4M3: return Put(ToF8E4M3(static_cast<float>(value)), out);
    case DType::kI8: return Put(static_cast<int8_t>(value), out);
    case DType::kU8: return Put(static_cast<uint8_t>(value), out);
    case DType::kI32: return Put(static_cast<int32_t>(value), out);
    case DType::kI64: return Put(static_cast<int64_t>(value), out);
    case DType::kU64: return Put(static_cast<uint64_t>(value), out);
  }
}

double Decode(DType dtype, const unsigned char* in) {
  switch (dtype) {
    case DType::kF32: return Take<float>(in);
    case DType::kF16: return ToFloat(Take<F16>(in));
    case DType::kBf16: return ToFloat(Take<Bf16>(in));
    case DType::kF8E4M3: return ToFloat(Take<F8E4M3>(in));
    case DType::kI8: return Take<int8_t>(in);
    case DType::kU8: return Take<uint8_t>(in);
    case DType::kI32: return Take<int32_t>(in);
    case DType::kI64: return static_cast<double>(Take<int64_t>(in));
    case DType::kU64: return static_cast<double>(Take<uint64_t>(in));
  }
  return 0;
}

/// Elements of one row of the first dimension.
int64_t RowElements(const TensorView& view) {
  int64_t n = 1;
  for (int i = 1; i < view.rank; ++i) n *= view.dims[i];
  return n;
}

}  // namespace

double RoundTo(DType dtype, double value) {
  unsigned char bytes[8] = {};
  Encode(dtype, value, bytes);
  return Decode(dtype, bytes);
}

double Roundoff(DType dtype) {
  switch (dtype) {
    case DType::kBf16: return 0x1p-8;
    case DType::kF16: return 0x1p-11;
    case DType::kF8E4M3: return 0x1p-4;
    default: return 0x1p-24;
  }
}

HostTensor Tensor(DType dtype, std::vector<int64_t> dims, std::vector<double> values) {
  return {dtype, std::move(dims), std::move(values)};
}

HostTensor Zeros(DType dtype, std::vector<int64_t> dims) {
  int64_t n = 1;
  for (const int64_t dim : dims) n *= dim;
  return {dtype, std::move(dims), std::vector<double>(static_cast<size_t>(n))};
}

HostTensor RandomTensor(std::mt19937_64& random, DType dtype, std::vector<int64_t> dims,
                        double deviation) {
  HostTensor tensor = Zeros(dtype, std::move(dims));
  std::normal_distribution<double> normal(0, deviation);
  for (double& value : tensor.values) {
    value = normal(random);
    if (dtype == DType::kF16) value = std::fmod(std::round(value * 512) / 512, 2.0);
    value = RoundTo(dtype, value);
  }
  return tensor;
}

Device::Device(std::string name, const BackendOptions& options) : name_(std::move(name)) {
  auto backend = CreateBackend(name_, options);
  GALE_CHECK(backend.has_value());
  backend_ = *std::move(backend);
  stream_ = backend_->CreateStream();
}

Buffer Device::Allocate(size_t bytes) {
  auto buffer = backend_->Allocate(bytes, MemoryKind::kDevice);
  GALE_CHECK(buffer.has_value());
  return *std::move(buffer);
}

DeviceTensor Device::Upload(const HostTensor& host, int64_t row_padding) {
  DeviceTensor tensor;
  tensor.row_padding_ = row_padding;
  tensor.view_ = TensorView(nullptr, host.dtype, std::span<const int64_t>(host.dims));
  const size_t element = DTypeBytes(host.dtype);
  const int64_t row = RowElements(tensor.view_);
  const int64_t pitch = row + row_padding;
  std::vector<unsigned char> bytes(static_cast<size_t>(host.dims[0] * pitch) * element, kPadByte);
  for (size_t i = 0; i < host.values.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i) / row * pitch + static_cast<int64_t>(i) % row;
    Encode(host.dtype, host.values[i], bytes.data() + static_cast<size_t>(at) * element);
  }
  tensor.buffer_ = Allocate(bytes.size());
  tensor.view_.data = tensor.buffer_.data();
  tensor.view_.strides[0] = pitch;
  backend_->Copy(*stream_, tensor.buffer_.data(), bytes.data(), bytes.size());
  Synchronize();  // `bytes` dies here
  return tensor;
}

HostTensor Device::Download(const DeviceTensor& tensor) {
  std::vector<unsigned char> bytes(tensor.buffer_.bytes());
  backend_->Copy(*stream_, bytes.data(), tensor.buffer_.data(), bytes.size());
  Synchronize();
  const TensorView& view = tensor.view_;
  const size_t element = DTypeBytes(view.dtype);
  const int64_t row = RowElements(view);
  HostTensor host = Zeros(view.dtype, {view.dims.begin(), view.dims.begin() + view.rank});
  for (int64_t r = 0; r < view.dim(0); ++r) {
    const unsigned char* in = bytes.data() + static_cast<size_t>(r * view.strides[0]) * element;
    for (int64_t i = 0; i < row; ++i, in += element) {
      host.values[static_cast<size_t>(r * row + i)] = Decode(view.dtype, in);
    }
    for (size_t i = 0; i < static_cast<size_t>(tensor.row_padding_) * element; ++i) {
      EXPECT_EQ(in[i], kPadByte) << "the gap after row " << r << " was overwritten";
    }
  }
  return host;
}

HostTensor Device::Download(const TensorView& contiguous) {
  std::vector<unsigned char> bytes(contiguous.Bytes());
  backend_->Copy(*stream_, bytes.data(), contiguous.data, bytes.size());
  Synchronize();
  HostTensor host =
      Zeros(contiguous.dtype, {contiguous.dims.begin(), contiguous.dims.begin() + contiguous.rank});
  const size_t element = DTypeBytes(contiguous.dtype);
  for (size_t i = 0; i < host.values.size(); ++i) {
    host.values[i] = Decode(contiguous.dtype, bytes.data() + i * element);
  }
  return host;
}

void Device::Synchronize() {
  const Status status = stream_->Synchronize();
  ASSERT_TRUE(status.has_value()) << status.error().message;
}

}  // namespace gale::test
