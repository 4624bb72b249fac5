// Moving tiles into shared memory and matrix fragments out of it: cp.async groups and ldmatrix.
// Layer L1b, device side; sm_80 and up.
#pragma once

#include <cstdint>

#include "backend/cuda/ptx.cuh"

namespace gale::cuda {

/// Asynchronous copy of 16 aligned bytes; zeros, and no access to `src`, unless `valid`.
__device__ __forceinline__ void CopyAsync16OrZero(void* shared_dst, const void* src, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared_dst)),
               "l"(src), "r"(valid ? 16 : 0)
               : "memory");
}

/// The same of 4 bytes, unconditionally.
__device__ __forceinline__ void CopyAsync4(void* shared_dst, const void* src) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(SharedAddress(shared_dst)), "l"(src)
               : "memory");
}

/// Closes the group of this thread's copies since the last one; it may be empty.
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most kPending of this thread's groups are on their way.
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
/// Matrix i arrives in m[i]: lane (g, t) holds its row g, columns 2t and 2t + 1.
__device__ __forceinline__ void LoadMatrices(uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(SharedAddress(row))
               : "memory");
}

/// The same, each matrix transposed.
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(SharedAddress(row))
               : "memory");
}

}  // namespace gale::cuda
