// libcublas: products are written down and not computed. Arguments that nothing here looks at are not declared.

#include "standin.h"

#include <cstdlib>

#define UNUSED(name) int name(Handle, ...) { standin_log("blas " #name); return 0; }

extern "C" {

int cublasCreate_v2(Handle* handle) { *handle = std::malloc(8); return 0; }
int cublasDestroy_v2(Handle handle) { std::free(handle); return 0; }
int cublasSetStream_v2(Handle, Handle) { return 0; }
int cublasSetMathMode(Handle, int) { return 0; }
int cublasGetMathMode(Handle, int* mode) { *mode = 0; return 0; }
const char* cublasGetStatusName(int) { return "CUBLAS_STATUS_STANDIN"; }
const char* cublasGetStatusString(int) { return "a status of the stand-in"; }

int cublasGemmEx(Handle, int, int, int m, int n, int k, ...) {
  standin_log("blas cublasGemmEx %d %d %d", m, n, k);
  return 0;
}
int cublasGemmStridedBatchedEx(Handle, int, int, int m, int n, int k, ...) {
  standin_log("blas cublasGemmStridedBatchedEx %d %d %d", m, n, k);
  return 0;
}
UNUSED(cublasGemmBatchedEx)
UNUSED(cublasSgemm_v2)
UNUSED(cublasDgemm_v2)
UNUSED(cublasSgemmBatched)
UNUSED(cublasDgemmBatched)
UNUSED(cublasSgemmStridedBatched)
UNUSED(cublasDgemmStridedBatched)
UNUSED(cublasSgeam)
UNUSED(cublasDgeam)
UNUSED(cublasSgetrfBatched)
UNUSED(cublasDgetrfBatched)
UNUSED(cublasSgetriBatched)
UNUSED(cublasDgetriBatched)
UNUSED(cublasScopy_v2)
UNUSED(cublasSscal_v2)

}  // extern "C"
