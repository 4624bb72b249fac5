#include "backend/cuda/cublas_lt.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <vector>

#include <fmt/format.h>

#include "backend/cuda/cublas_lt_tuned.h"
#include "backend/cuda/ops.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>
#endif

namespace gale::cuda {

#if __has_include(<cublasLt.h>)

namespace {

namespace fs = std::filesystem;

constexpr uint32_t kAlignment = 16;  // of all operands

/// The functions used, as the library that was found has them.
struct Functions {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_product = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_product = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_product = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_matrix = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_matrix = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose = nullptr;
  decltype(&cublasLtMatmulAlgoInit) init_kernel = nullptr;
  decltype(&cublasLtMatmulAlgoConfigSetAttribute) set_kernel = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) check = nullptr;

  bool FindIn(void* library) {
    bool all = true;
    const auto find = [&](auto& function, const char* symbol) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
      all = all && function != nullptr;
    };
    find(create, "cublasLtCreate");
    find(matmul, "cublasLtMatmul");
    find(create_product, "cublasLtMatmulDescCreate");
    find(destroy_product, "cublasLtMatmulDescDestroy");
    find(set_product, "cublasLtMatmulDescSetAttribute");
    find(create_matrix, "cublasLtMatrixLayoutCreate");
    find(destroy_matrix, "cublasLtMatrixLayoutDestroy");
    find(create_preference, "cublasLtMatmulPreferenceCreate");
    find(destroy_preference, "cublasLtMatmulPreferenceDestroy");
    find(set_preference, "cublasLtMatmulPreferenceSetAttribute");
    find(choose, "cublasLtMatmulAlgoGetHeuristic");
    find(init_kernel, "cublasLtMatmulAlgoInit");
    find(set_kernel, "cublasLtMatmulAlgoConfigSetAttribute");
    find(check, "cublasLtMatmulAlgoCheck");
    return all;
  }
};

/// Folders of a list such as PATH.
std::vector<fs::path> Folders(const char* variable) {
  const char* list = std::getenv(variable);
  std::stringstream stream(list == nullptr ? "" : list);
  std::vector<fs::path> folders;
  for (std::string folder; std::getline(stream, folder, ':');) folders.emplace_back(folder);
  return folders;
}

/// Where the Python packages of NVIDIA's libraries have theirs, for the first python3 in PATH.
std::vector<fs::path> PythonFolders() {
  std::error_code ignored;
  std::vector<fs::path> folders;
  for (const fs::path& programs : Folders("PATH")) {
    if (!fs::exists(programs / "python3", ignored)) continue;
    for (const auto& entry : fs::directory_iterator(programs / ".." / "lib", ignored)) {
      if (entry.path().filename().string().rfind("python3", 0) != 0) continue;
      for (const char* packages : {"site-packages", "dist-packages"}) {
        folders.push_back(entry.path() / packages / "nvidia" /
                          fmt::format("cu{}", CUBLAS_VER_MAJOR) / "lib");
      }
    }
    break;
  }
  return folders;
}

/// What the choice of a kernel depends on.
struct Shape {
  int64_t rows;  ///< rounded up
  int64_t outputs;
  int64_t k;
  int64_t x_stride;
  int64_t out_stride;
  cudaDataType_t out_type;
  bool bias;
  bool f8 = false;

  auto operator<=>(const Shape&) const = default;
};

/// Rows that share a kernel: within an eighth of one another.
int64_t RoundedRows(int64_t rows) {
  constexpr int64_t kFinest = 16;
  const auto step =
      std::max(kFinest, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows - 1)) / 4));
  return (rows + step - 1) / step * step;
}

class LoadedCublasLt final : public CublasLt {
 public:
  static std::unique_ptr<CublasLt> Load() {
    const std::string file = FindFile();
    void* library = file.empty() ? nullptr : dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    Functions functions;
    if (library == nullptr || !functions.FindIn(library)) return nullptr;
    cublasLtHandle_t handle = nullptr;
    if (functions.create(&handle) != CUBLAS_STATUS_SUCCESS) return nullptr;
    return std::make_unique<LoadedCublasLt>(functions, handle);
  }

  LoadedCublasLt(const Functions& functions, cublasLtHandle_t handle)
      : lt_(functions), handle_(handle) {}

  bool Run(CudaStream& stream, const LinearArgs& args) override {
    const bool takes = args.x.dtype == DType::kBf16 && args.weight->data.dtype == DType::kBf16 &&
                       (!args.bias || args.bias.dtype == args.out.dtype) && IsAligned(args.x) &&
                       IsAligned(args.weight->data) && IsAligned(args.out);
    if (!takes) return false;
    return Multiply(stream, {args.x, args.weight->data, args.bias, args.out});
  }

  bool RunF8(CudaStream& stream, const ScaledF8Args& args) override {
    const bool takes = args.out.dtype == DType::kBf16 &&
                       (!args.bias || args.bias.dtype == DType::kBf16) && IsAligned(args.x) &&
                       IsAligned(args.weight) && IsAligned(args.out);
    if (!takes) return false;
    return Multiply(stream,
                    {args.x, args.weight, args.bias, args.out, args.x_scales, args.weight_scales});
  }

 private:
  static bool IsAligned(const TensorView& view) {
    return reinterpret_cast<uintptr_t>(view.data) % kAlignment == 0 &&
           view.strides[0] * static_cast<int64_t>(DTypeBytes(view.dtype)) % kAlignment == 0;
  }

  struct Operands {
    TensorView x;
    TensorView weight;
    TensorView bias;
    TensorView out;
    const float* x_scales = nullptr;  // of 8-bit floats
    const float* weight_scales = nullptr;
  };

  /// The library's view: matrices lie column by column, so that rows of ours are its columns.
  struct Product {
    Product(const Functions& functions, const Operands& args, int64_t rows) : lt(functions) {
      const cublasOperation_t transposed = CUBLAS_OP_T;
      lt.create_product(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
      Set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
      if (args.bias) {
        Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
        Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias.data);
      }
      if (args.x_scales != nullptr) {
        const cublasLtMatmulMatrixScale_t by_rows = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
        Set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, by_rows);
        Set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, by_rows);
        Set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, args.weight_scales);
        Set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, args.x_scales);
      }
      const cudaDataType_t type = args.x_scales != nullptr ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
      const auto width = static_cast<uint64_t>(args.x.dim(1));
      const auto outputs = static_cast<uint64_t>(args.weight.dim(0));
      const auto columns = static_cast<uint64_t>(rows);
      lt.create_matrix(&weight, type, width, outputs, args.weight.strides[0]);
      lt.create_matrix(&x, type, width, columns, args.x.strides[0]);
      lt.create_matrix(&out, OutType(args), outputs, columns, args.out.strides[0]);
    }
    ~Product() {
      lt.destroy_matrix(out);
      lt.destroy_matrix(x);
      lt.destroy_matrix(weight);
      lt.destroy_product(product);
    }
    Product(const Product&) = delete;
    Product& operator=(const Product&) = delete;

    template <class Value>
    void Set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
      lt.set_product(product, attribute, &value, sizeof(value));
    }

    const Functions& lt;
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t weight = nullptr;
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t out = nullptr;
  };

  bool Multiply(CudaStream& stream, const Operands& args) {
    const Product product(lt_, args, args.x.dim(0));
    const std::lock_guard lock(mutex_);
    const cublasLtMatmulAlgo_t* kernel = FindKernel(args);
    void* workspace = kernel == nullptr ? nullptr : stream.Scratch(kWorkspaceBytes);
    if (workspace == nullptr) return false;
    constexpr float kOne = 1;
    constexpr float kZero = 0;
    return lt_.matmul(handle_, product.product, &kOne, args.weight.data, product.weight,
                      args.x.data, product.x, &kZero, args.out.data, product.out, args.out.data,
                      product.out, kernel, workspace, kWorkspaceBytes,
                      stream.get()) == CUBLAS_STATUS_SUCCESS;
  }

  static cudaDataType_t OutType(const Operands& args) {
    return args.out.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  }

  /// For so many rows or a few more; null when the library has none.
  const cublasLtMatmulAlgo_t* FindKernel(const Operands& args) {
    const Shape shape = {.rows = RoundedRows(args.x.dim(0)),
                         .outputs = args.weight.dim(0),
                         .k = args.x.dim(1),
                         .x_stride = args.x.strides[0],
                         .out_stride = args.out.strides[0],
                         .out_type = OutType(args),
                         .bias = static_cast<bool>(args.bias),
                         .f8 = args.x_scales != nullptr};
    const auto [found, is_new] = kernels_.try_emplace(shape);
    if (is_new) {
      const Product product(lt_, args, shape.rows);
      if (!shape.f8) found->second = TunedKernelFor(product, shape);
      if (!found->second) found->second = FirstChoice(product);
    }
    return found->second ? &*found->second : nullptr;
  }

  /// None when the table has none, or one that this version of the library does not know.
  std::optional<cublasLtMatmulAlgo_t> TunedKernelFor(const Product& product,
                                                     const Shape& shape) const {
    const TunedKernel* tuned = FindTuned(shape.rows, shape.outputs, shape.k);
    if (tuned == nullptr) return std::nullopt;
    cublasLtMatmulAlgo_t kernel{};
    bool known = lt_.init_kernel(handle_, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF,
                                 shape.out_type, shape.out_type, TunedKernel::kFamily,
                                 &kernel) == CUBLAS_STATUS_SUCCESS;
    const auto set = [&](cublasLtMatmulAlgoConfigAttributes_t attribute, const auto& value) {
      known = known &&
              lt_.set_kernel(&kernel, attribute, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
    };
    set(CUBLASLT_ALGO_CONFIG_TILE_ID, uint32_t{tuned->tile});
    set(CUBLASLT_ALGO_CONFIG_STAGES_ID, TunedKernel::kStages);
    set(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, int32_t{tuned->splits});
    set(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, uint32_t{tuned->reduction});
    set(CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, uint32_t{tuned->option});
    set(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, uint16_t{tuned->cluster});
    cublasLtMatmulHeuristicResult_t result{};
    known = known &&
            lt_.check(handle_, product.product, product.weight, product.x, product.out, product.out,
                      &kernel, &result) == CUBLAS_STATUS_SUCCESS &&
            result.workspaceSize <= kWorkspaceBytes;
    return known ? std::optional(kernel) : std::nullopt;
  }

  std::optional<cublasLtMatmulAlgo_t> FirstChoice(const Product& product) const {
    cublasLtMatmulPreference_t preference = nullptr;
    lt_.create_preference(&preference);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      lt_.set_preference(preference, attribute, &value, sizeof(value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    for (const auto operand :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      set(operand, kAlignment);
    }
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    lt_.choose(handle_, product.product, product.weight, product.x, product.out, product.out,
               preference, 1, &result, &found);
    lt_.destroy_preference(preference);
    if (found == 0) return std::nullopt;
    return result.algo;
  }

  Functions lt_;
  cublasLtHandle_t handle_;  // until the process ends
  std::mutex mutex_;
  std::map<Shape, std::optional<cublasLtMatmulAlgo_t>> kernels_;
};

}  // namespace

std::string CublasLt::FindFile() {
  if (const char* chosen = std::getenv("GALE_CUBLASLT"); chosen != nullptr) {
    return std::strcmp(chosen, "off") == 0 ? "" : chosen;
  }
  std::vector<fs::path> folders = Folders("LD_LIBRARY_PATH");
  for (const char* folder : {"/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"}) {
    folders.emplace_back(folder);
  }
  for (fs::path& folder : PythonFolders()) folders.push_back(std::move(folder));
  std::error_code ignored;
  for (const fs::path& folder : folders) {
    const fs::path file = folder / fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
    if (fs::exists(file, ignored)) return file;
  }
  return {};
}

#else

std::string CublasLt::FindFile() { return {}; }

#endif

namespace {

std::unique_ptr<CublasLt> Load() {
#if __has_include(<cublasLt.h>)
  return LoadedCublasLt::Load();
#else
  return nullptr;
#endif
}

/// The library on its way.
class Loading {
 public:
  static Loading& Only() {
    static Loading loading;
    return loading;
  }

  void Begin() {
    const std::lock_guard lock(mutex_);
    if (!library_.valid()) library_ = std::async(std::launch::async, Load);
  }
  void Finish() {
    const std::lock_guard lock(mutex_);
    if (library_.valid()) library_.wait();
  }
  CublasLt* Get() {
    Begin();
    return library_.get().get();
  }

 private:
  std::mutex mutex_;
  std::shared_future<std::unique_ptr<CublasLt>> library_;
};

}  // namespace

void CublasLt::Preload() { Loading::Only().Begin(); }

void CublasLt::FinishPreload() { Loading::Only().Finish(); }

CublasLt* CublasLt::Get() { return Loading::Only().Get(); }

bool RunCublasLt(CudaStream& stream, const LinearArgs& args) {
  CublasLt* library = CublasLt::Get();
  return library != nullptr && library->Run(stream, args);
}

}  // namespace gale::cuda
