// Hopper's asynchronous matrix units: products of a warp group (wgmma) on operands in shared
// memory, and the tensor copies (TMA) that bring them there. sm_90a only.
#pragma once

#include <cstdint>

#include <cuda.h>
#include <cuda_bf16.h>

#include "backend/cuda/ptx.cuh"

namespace gale::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// A matrix of rows of 64 bf16 (128 bytes) as a tensor copy lays it out with the 128-byte swizzle:
/// groups of eight rows, 1,024 bytes apart. `tile` is 1,024-byte aligned; `k` is the first of the
/// 16 columns wanted, a multiple of 16.
__device__ __forceinline__ uint64_t SwizzledMatrix(const void* tile, int k) {
  constexpr uint64_t kGroupBytes = 1024;
  constexpr uint64_t kSwizzle128 = 1;
  const uint64_t address = SharedAddress(tile) + static_cast<uint32_t>(k) * 2;
  return (address & 0x3FFFF) >> 4 | kGroupBytes >> 4 << 32 | kSwizzle128 << 62;
}

/// The descriptor of what lies `bytes` (a multiple of 16) further on in shared memory.
__device__ __forceinline__ uint64_t FurtherOn(uint64_t matrix, int bytes) {
  return matrix + static_cast<uint64_t>(bytes / 16);
}

/// The transpose of a matrix of any number of 64-column parts: rows `row` to row + 15 (a multiple
/// of 16) of parts that are `rows` rows long each and laid out as above, one after the other.
__device__ __forceinline__ uint64_t SwizzledTranspose(const void* parts, int row, int rows) {
  constexpr uint64_t kRowBytes = 128;
  constexpr uint64_t kGroupBytes = 1024;
  constexpr uint64_t kSwizzle128 = 1;
  const uint64_t address = SharedAddress(parts) + static_cast<uint32_t>(row) * kRowBytes;
  const uint64_t part_bytes = static_cast<uint32_t>(rows) * kRowBytes;
  return (address & 0x3FFFF) >> 4 | part_bytes >> 4 << 16 | kGroupBytes >> 4 << 32 |
         kSwizzle128 << 62;
}

/// Keeps the compiler from moving uses of `x`, which a product writes, over this place.
template <int kSize>
__device__ __forceinline__ void FenceRegisters(float (&x)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(x[i])::"memory");
}

__device__ __forceinline__ void WgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kPending groups committed are still running.
template <int kPending>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

#define GALE_D4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define GALE_D16(i) GALE_D4(i), GALE_D4((i) + 4), GALE_D4((i) + 8), GALE_D4((i) + 12)
#define GALE_D64(i) GALE_D16(i), GALE_D16((i) + 16), GALE_D16((i) + 32), GALE_D16((i) + 48)
#define GALE_R4 "%0,%1,%2,%3"
#define GALE_R8 GALE_R4 ",%4,%5,%6,%7"
#define GALE_R16 GALE_R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define GALE_R32 GALE_R16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define GALE_R64                                                     \
  GALE_R32                                                           \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47" \
  ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define GALE_R96                                                     \
  GALE_R64                                                           \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79" \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define GALE_R128                                                                \
  GALE_R64                                                                       \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"             \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"             \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define GALE_WGMMA(n, registers, a, b, add, ...)                                                \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add                                        \
               ", 0;\n"                                                                         \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" registers "}, %" #a \
               ", %" #b ", p, 1, 1, 0, 0;\n}"                                                   \
               : __VA_ARGS__                                                                    \
               : "l"(a_matrix), "l"(b_matrix), "r"(accumulate))

/// d (64 x kN) = a * b^T, added to what was there if `accumulate`; a is 64 x 16, b kN x 16. Thread
/// i of the group holds, for each j < kN / 8, rows 16 (i / 32) + i % 32 / 4 (d[4j], d[4j + 1]) and
/// eight further down (d[4j + 2], d[4j + 3]), columns 8 j + i % 4 * 2 and the next.
template <int kN>
__device__ __forceinline__ void Wgmma(float (&d)[kN / 2], uint64_t a_matrix, uint64_t b_matrix,
                                      int accumulate) {
  if constexpr (kN == 16) {
    GALE_WGMMA(16, GALE_R8, 8, 9, 10, GALE_D4(0), GALE_D4(4));
  } else if constexpr (kN == 32) {
    GALE_WGMMA(32, GALE_R16, 16, 17, 18, GALE_D16(0));
  } else if constexpr (kN == 64) {
    GALE_WGMMA(64, GALE_R32, 32, 33, 34, GALE_D16(0), GALE_D16(16));
  } else if constexpr (kN == 128) {
    GALE_WGMMA(128, GALE_R64, 64, 65, 66, GALE_D64(0));
  } else if constexpr (kN == 192) {
    GALE_WGMMA(192, GALE_R96, 96, 97, 98, GALE_D64(0), GALE_D16(64), GALE_D16(80));
  } else {
    static_assert(kN == 256);
    GALE_WGMMA(256, GALE_R128, 128, 129, 130, GALE_D64(0), GALE_D64(64));
  }
}

#define GALE_WGMMA_REGISTERS(n, transposed, registers, a0, a1, a2, a3, b, add, ...)               \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add                                          \
               ", 0;\n"                                                                           \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" registers "}, {%" #a0 \
               ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", p, 1, 1, " #transposed ";\n}"           \
               : __VA_ARGS__                                                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix), "r"(accumulate))

/// d (64 x kN) = a * b, added to what was there if `accumulate`; b is 16 x kN (SwizzledTranspose).
/// a is 64 x 16 in registers, packed from sums as Wgmma leaves them, d[8i] to d[8i + 7] for columns
/// 16i on.
template <int kN>
__device__ __forceinline__ void WgmmaRegisters(float (&d)[kN / 2], const uint32_t* a,
                                               uint64_t b_matrix, int accumulate) {
  if constexpr (kN == 64) {
    GALE_WGMMA_REGISTERS(64, 1, GALE_R32, 32, 33, 34, 35, 36, 37, GALE_D16(0), GALE_D16(16));
  } else if constexpr (kN == 128) {
    GALE_WGMMA_REGISTERS(128, 1, GALE_R64, 64, 65, 66, 67, 68, 69, GALE_D64(0));
  } else {
    static_assert(kN == 256);
    GALE_WGMMA_REGISTERS(256, 1, GALE_R128, 128, 129, 130, 131, 132, 133, GALE_D64(0),
                         GALE_D64(64));
  }
}

/// d (64 x kN) = a * b^T, added to what was there if `accumulate`; a is 64 x 16 in registers as
/// above, b is kN x 16 (SwizzledMatrix).
template <int kN>
__device__ __forceinline__ void WgmmaByRows(float (&d)[kN / 2], const uint32_t* a,
                                            uint64_t b_matrix, int accumulate) {
  if constexpr (kN == 8) {
    GALE_WGMMA_REGISTERS(8, 0, GALE_R4, 4, 5, 6, 7, 8, 9, GALE_D4(0));
  } else if constexpr (kN == 16) {
    GALE_WGMMA_REGISTERS(16, 0, GALE_R8, 8, 9, 10, 11, 12, 13, GALE_D4(0), GALE_D4(4));
  } else if constexpr (kN == 32) {
    GALE_WGMMA_REGISTERS(32, 0, GALE_R16, 16, 17, 18, 19, 20, 21, GALE_D16(0));
  } else if constexpr (kN == 64) {
    GALE_WGMMA_REGISTERS(64, 0, GALE_R32, 32, 33, 34, 35, 36, 37, GALE_D16(0), GALE_D16(16));
  } else if constexpr (kN == 128) {
    GALE_WGMMA_REGISTERS(128, 0, GALE_R64, 64, 65, 66, 67, 68, 69, GALE_D64(0));
  } else {
    static_assert(kN == 256);
    GALE_WGMMA_REGISTERS(256, 0, GALE_R128, 128, 129, 130, 131, 132, 133, GALE_D64(0),
                         GALE_D64(64));
  }
}

#undef GALE_D4
#undef GALE_D16
#undef GALE_D64
#undef GALE_R4
#undef GALE_R8
#undef GALE_R16
#undef GALE_R32
#undef GALE_R64
#undef GALE_R96
#undef GALE_R128
#undef GALE_WGMMA
#undef GALE_WGMMA_REGISTERS

/// The barrier expects `bytes` from copies beside this arrival.
__device__ __forceinline__ void MbarrierArriveExpect(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}

/// Makes barriers just initialized known to the units that copy.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Fetches a map before its first copy, which would wait for it.
__device__ __forceinline__ void PrefetchMap(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Copies the map's box at (column, row) to shared memory; the barrier counts its bytes. What lies
/// outside the matrix is filled with zeros.
__device__ __forceinline__ void CopyBox(void* shared_dst, const CUtensorMap& map, int column,
                                        int row, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(SharedAddress(shared_dst)),
      "l"(&map), "r"(column), "r"(row), "r"(SharedAddress(barrier))
      : "memory");
}

/// Copies `bytes` (a multiple of 16, both sides aligned alike) to shared memory; the barrier counts
/// them.
__device__ __forceinline__ void CopyBytes(void* shared_dst, const void* src, uint32_t bytes,
                                          uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(SharedAddress(shared_dst)),
      "l"(src), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}

/// L2 gives up first what is copied so (an encoding that createpolicy makes).
constexpr uint64_t kEvictFirst = 0x12F0000000000000;

__device__ __forceinline__ void CopyBytes(void* shared_dst, const void* src, uint32_t bytes,
                                          uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(SharedAddress(shared_dst)),
      "l"(src), "r"(bytes), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

/// Where a box of a map of four dimensions begins, from the innermost on.
struct BoxPlace {
  int x, y, z, w;
};

__device__ __forceinline__ void CopyBox(void* shared_dst, const CUtensorMap& map,
                                        const BoxPlace& place, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(SharedAddress(shared_dst)),
      "l"(&map), "r"(place.x), "r"(place.y), "r"(place.z), "r"(place.w), "r"(SharedAddress(barrier))
      : "memory");
}

__device__ __forceinline__ void CopyBox(void* shared_dst, const CUtensorMap& map,
                                        const BoxPlace& place, uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(SharedAddress(shared_dst)),
      "l"(&map), "r"(place.x), "r"(place.y), "r"(place.z), "r"(place.w),
      "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

/// What this thread's ordinary stores wrote to shared memory is seen by products and copies that
/// begin later.
__device__ __forceinline__ void FenceAsyncShared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Four 8 x 8 matrices of 16-bit elements to shared memory, as registers of Wgmma's sums hold them;
/// lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void StoreMatrices(void* row, uint32_t m0, uint32_t m1, uint32_t m2,
                                              uint32_t m3) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(SharedAddress(row)),
      "r"(m0), "r"(m1), "r"(m2), "r"(m3)
      : "memory");
}

/// The same, each matrix transposed.
__device__ __forceinline__ void StoreMatricesTransposed(void* row, uint32_t m0, uint32_t m1,
                                                        uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(
                   SharedAddress(row)),
               "r"(m0), "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

__device__ __forceinline__ uint32_t ClusterRank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ uint32_t ClusterBlocks() {
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return blocks;
}

/// The two halves of a barrier over the cluster's threads that have not ended. It orders nothing
/// but the initialization of barriers before FenceBarrierInit.
__device__ __forceinline__ void ClusterArriveRelaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void ClusterWait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// Stores to where block `rank` of the cluster has `address`; its barrier that lies where this
/// block has `barrier` counts the 16 bytes.
__device__ __forceinline__ void StoreCluster(float4* address, int rank, const float4& v,
                                             uint64_t* barrier) {
  asm volatile(
      "{\n"
      ".reg .u32 remote, remote_barrier;\n"
      "mapa.shared::cluster.u32 remote, %0, %2;\n"
      "mapa.shared::cluster.u32 remote_barrier, %1, %2;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [remote], {%3, %4, %5, %6}, "
      "[remote_barrier];\n"
      "}" ::"r"(SharedAddress(address)),
      "r"(SharedAddress(barrier)), "r"(rank), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
      : "memory");
}

/// Barrier over the cluster's threads that have not ended; orders their shared memory.
__device__ __forceinline__ void ClusterSync() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

/// What block `rank` of the cluster has in its shared memory where this one has `address`.
__device__ __forceinline__ float4 LoadCluster(const float4* address, int rank) {
  float4 v;
  asm volatile(
      "{\n"
      ".reg .u32 remote;\n"
      "mapa.shared::cluster.u32 remote, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [remote];\n"
      "}"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
      : "r"(SharedAddress(address)), "r"(rank)
      : "memory");
  return v;
}

#endif

}  // namespace gale::cuda
