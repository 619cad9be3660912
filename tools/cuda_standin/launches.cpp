// libcudart: kernels. A launch is held to CUDA's limits and written down; the kernel does not run.

#include "standin.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

static std::mutex mutex;
static std::unordered_map<const void*, std::string> names;     // of the functions that stand for kernels
static std::unordered_map<const void*, int> shared_granted;    // bytes beyond 48 KiB that a kernel asked to be allowed
static long launches;

struct Configuration {  // of the <<<…>>> before the call
  Size3 grid, block;
  std::size_t shared;
  Handle stream;
};
static thread_local Configuration pushed;

static Error launch(const void* function, Size3 grid, Size3 block, std::size_t shared) {
  std::lock_guard<std::mutex> guard(mutex);
  auto name = names.find(function);
  auto granted = shared_granted.find(function);
  std::size_t most = 48 << 10;
  if (granted != shared_granted.end() && granted->second > int(most)) most = granted->second;
  bool empty = !grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z;
  bool large = grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535 || block.z > 64 ||
               std::size_t(block.x) * block.y * block.z > 1024;
  Error error = empty || large ? kInvalidConfiguration : shared > most ? kInvalidValue : kSuccess;
  ++launches;
  standin_log("kernel %s %zu%s", name == names.end() ? "?" : name->second.c_str(),
              std::size_t(grid.x) * grid.y * grid.z, error ? " refused" : "");
  return error ? failed(error) : kSuccess;
}

extern "C" {

long standin_launches() { std::lock_guard<std::mutex> guard(mutex); return launches; }

// What the compiler puts into every object with kernels.
void** __cudaRegisterFatBinary(void*) { return static_cast<void**>(std::malloc(8)); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, Size3*, Size3*, Size3*, Size3*,
                            int*) {
  std::lock_guard<std::mutex> guard(mutex);
  names[function] = name;
}
unsigned __cudaPushCallConfiguration(Size3 grid, Size3 block, std::size_t shared, Handle stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}
Error __cudaPopCallConfiguration(Size3* grid, Size3* block, std::size_t* shared, Handle* stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared = pushed.shared;
  *stream = pushed.stream;
  return kSuccess;
}
Error __cudaGetKernel(const void** kernel, const void* function) {
  *kernel = function;
  return kSuccess;
}

Error __cudaLaunchKernel(const void* kernel, Size3 grid, Size3 block, void**, std::size_t shared, Handle) {
  return launch(kernel, grid, block, shared);
}
Error cudaLaunchKernel(const void* kernel, Size3 grid, Size3 block, void**, std::size_t shared, Handle) {
  return launch(kernel, grid, block, shared);
}
Error cudaLaunchCooperativeKernel(const void* kernel, Size3 grid, Size3 block, void**, std::size_t shared, Handle) {
  return launch(kernel, grid, block, shared);
}
struct LaunchConfiguration {  // the beginning of cudaLaunchConfig_t
  Size3 grid, block;
  std::size_t shared;
};
Error cudaLaunchKernelExC(const LaunchConfiguration* asked, const void* kernel, void**) {
  return launch(kernel, asked->grid, asked->block, asked->shared);
}
Error cudaLaunchHostFunc(Handle, void (*function)(void*), void* data) {
  function(data);
  return kSuccess;
}

// cudaFuncAttributes: maxThreadsPerBlock at 24, numRegs 28, ptxVersion 32, binaryVersion 36, maxDynamicSharedSizeBytes 44.
Error cudaFuncGetAttributes(char* attributes, const void*) {
  std::memset(attributes, 0, 144);
  const int values[] = {1024, 64, card().sm, card().sm, 0, 48 << 10};
  std::memcpy(attributes + 24, values, sizeof values);
  return kSuccess;
}
Error cudaFuncSetAttribute(const void* function, int attribute, int value) {
  if (attribute != 8) return kSuccess;  // cudaFuncAttributeMaxDynamicSharedMemorySize
  if (value > int(card().shared_of_block)) return failed(kInvalidValue);
  std::lock_guard<std::mutex> guard(mutex);
  shared_granted[function] = value;
  return kSuccess;
}
Error cudaKernelSetAttributeForDevice(const void* kernel, int attribute, int value, int) {
  return cudaFuncSetAttribute(kernel, attribute, value);
}
Error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, std::size_t shared,
                                                            unsigned) {
  *blocks = shared > card().shared ? 0 : 1;
  return kSuccess;
}

Error cudaLibraryLoadData(Handle*, const void*, void*, void**, unsigned, void*, void**, unsigned) {
  return failed(kNotSupported);
}
Error cudaLibraryGetKernel(Handle*, Handle, const char*) { return failed(kNotSupported); }
Error cudaLibraryUnload(Handle) { return kSuccess; }

}  // extern "C"
