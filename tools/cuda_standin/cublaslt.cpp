// libcublasLt: it has no algorithm for anything, so that ONNX Runtime takes its other ways.

#include "standin.h"

#include <cstdlib>

#define MAKE(name) int name(Handle* handle, ...) { *handle = std::malloc(8); return 0; }
#define DROP(name) int name(Handle handle) { std::free(handle); return 0; }
#define NOTHING(name) int name(Handle, ...) { standin_log("blas " #name); return 0; }

extern "C" {

MAKE(cublasLtCreate)
DROP(cublasLtDestroy)
MAKE(cublasLtMatmulDescCreate)
DROP(cublasLtMatmulDescDestroy)
MAKE(cublasLtMatmulPreferenceCreate)
DROP(cublasLtMatmulPreferenceDestroy)
MAKE(cublasLtMatrixLayoutCreate)
DROP(cublasLtMatrixLayoutDestroy)
MAKE(cublasLtMatrixTransformDescCreate)
DROP(cublasLtMatrixTransformDescDestroy)
NOTHING(cublasLtMatmul)
NOTHING(cublasLtMatmulAlgoConfigSetAttribute)
NOTHING(cublasLtMatmulAlgoInit)
NOTHING(cublasLtMatmulDescSetAttribute)
NOTHING(cublasLtMatmulPreferenceSetAttribute)
NOTHING(cublasLtMatrixLayoutSetAttribute)
NOTHING(cublasLtMatrixTransform)
int cublasLtMatmulAlgoGetHeuristic(Handle, Handle, Handle, Handle, Handle, Handle, Handle, int, void*, int* found) {
  *found = 0;
  return 0;
}

}  // extern "C"
