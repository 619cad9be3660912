// libcudart: streams, events, pools and graphs. Everything is done when it is asked for, so there is nothing to wait for.

#include "standin.h"

#include <cstdlib>

static Error make(Handle* handle) {
  *handle = std::malloc(8);
  return kSuccess;
}
static Error drop(Handle handle) {
  std::free(handle);
  return kSuccess;
}

extern "C" {

Error cudaStreamCreate(Handle* stream) { return make(stream); }
Error cudaStreamCreateWithFlags(Handle* stream, unsigned) { return make(stream); }
Error cudaStreamDestroy(Handle stream) { return drop(stream); }
Error cudaStreamSynchronize(Handle) { return kSuccess; }
Error cudaStreamWaitEvent(Handle, Handle, unsigned) { return kSuccess; }
Error cudaStreamIsCapturing(Handle, int* capturing) { *capturing = 0; return kSuccess; }
Error cudaStreamBeginCapture(Handle, int) { return failed(kNotSupported); }
Error cudaStreamEndCapture(Handle, Handle*) { return failed(kNotSupported); }

Error cudaEventCreate(Handle* event) { return make(event); }
Error cudaEventCreateWithFlags(Handle* event, unsigned) { return make(event); }
Error cudaEventDestroy(Handle event) { return drop(event); }
Error cudaEventRecord(Handle, Handle) { return kSuccess; }
Error cudaEventRecordWithFlags(Handle, Handle, unsigned) { return kSuccess; }
Error cudaEventSynchronize(Handle) { return kSuccess; }
Error cudaEventElapsedTime(float* milliseconds, Handle, Handle) {
  *milliseconds = 0.1f;  // of several kernels that are tried, the first is taken
  return kSuccess;
}

Error cudaMemPoolCreate(Handle* pool, const void*) { return make(pool); }
Error cudaMemPoolDestroy(Handle pool) { return drop(pool); }
Error cudaMemPoolGetAttribute(Handle, int, std::size_t* value) { *value = 0; return kSuccess; }
Error cudaMemPoolSetAttribute(Handle, int, void*) { return kSuccess; }
Error cudaMemPoolTrimTo(Handle, std::size_t) { return kSuccess; }

Error cudaGraphDestroy(Handle) { return kSuccess; }
Error cudaGraphExecDestroy(Handle) { return kSuccess; }
Error cudaGraphInstantiate(Handle*, Handle, unsigned long long) { return failed(kNotSupported); }
Error cudaGraphLaunch(Handle, Handle) { return failed(kNotSupported); }

}  // extern "C"
