// libcuda: what dream-edge asks the driver about the machine. STANDIN_DRIVER is its version, STANDIN_INIT cuInit's answer.

#include "standin.h"

#include <cstdlib>
#include <cstring>
#include <cstdio>
#include <dlfcn.h>

static long setting(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atol(text) : otherwise;
}

extern "C" {

int cuInit(unsigned) { return int(setting("STANDIN_INIT", 0)); }
int cuDriverGetVersion(int* version) { *version = int(setting("STANDIN_DRIVER", 13000)); return 0; }
int cuDeviceGet(int* device, int number) { *device = number; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
  long sm = setting("STANDIN_SM", 89);
  *value = int(attribute == 75 ? sm / 10 : attribute == 76 ? sm % 10 : 0);
  return 0;
}
int cuDeviceGetName(char* name, int length, int) {
  std::snprintf(name, std::size_t(length), "Stand-in sm_%ld", setting("STANDIN_SM", 89));
  return 0;
}
int cuDevicePrimaryCtxRetain(Handle* context, int) { *context = reinterpret_cast<Handle>(1); return 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxPushCurrent_v2(Handle) { return 0; }
int cuCtxPopCurrent_v2(Handle* context) { *context = reinterpret_cast<Handle>(1); return 0; }
int cuTensorMapEncodeTiled() { return kNotSupported; }

int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  using Ask = int (*)(std::size_t*, std::size_t*);
  // the runtime's library keeps the accounts; it may be missing, as on a machine that has the driver alone
  Handle runtime = dlopen("libcudart.so.13", RTLD_LAZY);
  if (Ask ask = runtime ? reinterpret_cast<Ask>(dlsym(runtime, "cudaMemGetInfo")) : nullptr) return ask(free, total);
  *free = *total = 0;
  return 100;
}

}  // extern "C"
