// libcudart: which card this is, errors, the log.

#include "standin.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

long environment(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atol(text) : otherwise;
}

const Card& card() {
  static const Card known[] = {
      {75, 30, 1024, 64 << 10, 64 << 10},    // GTX 1660, RTX 20
      {80, 108, 2048, 163 << 10, 164 << 10}, // A100
      {86, 28, 1536, 99 << 10, 100 << 10},   // RTX 30
      {89, 46, 1536, 99 << 10, 100 << 10},   // RTX 40
      {90, 132, 2048, 227 << 10, 228 << 10}, // H100
      {120, 48, 1536, 99 << 10, 100 << 10},  // RTX 50
  };
  static const long asked = environment("STANDIN_SM", 89);
  for (const Card& each : known)
    if (each.sm == asked) return each;
  static const Card unknown = {int(asked), 46, 1536, 99 << 10, 100 << 10};
  return unknown;
}

static thread_local Error last = kSuccess;

Error failed(Error error) {
  last = error;
  return error;
}

static FILE* open_log() {
  const char* path = std::getenv("STANDIN_LOG");
  FILE* file = path ? std::fopen(path, "a") : nullptr;
  if (file) std::setvbuf(file, nullptr, _IOFBF, 1 << 20);
  return file;
}

static FILE* log_file() {
  static FILE* file = open_log();
  return file;
}

extern "C" {

void standin_log(const char* format, ...) {
  FILE* file = log_file();
  if (!file) return;
  static std::mutex mutex;
  std::lock_guard<std::mutex> guard(mutex);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(file, format, arguments);
  va_end(arguments);
  std::fputc('\n', file);
}

void standin_flush() {
  if (FILE* file = log_file()) std::fflush(file);
}

Error cudaGetLastError() {
  Error error = last;
  last = kSuccess;
  return error;
}
Error cudaPeekAtLastError() { return last; }

const char* cudaGetErrorName(Error error) {
  static thread_local char name[32];
  std::snprintf(name, sizeof name, "cudaError%d", int(error));
  return name;
}
const char* cudaGetErrorString(Error error) {
  if (error == kSuccess) return "no error";
  return error == kMemoryAllocation ? "out of memory" : cudaGetErrorName(error);
}

Error cudaGetDevice(int* device) { *device = 0; return kSuccess; }
Error cudaSetDevice(int device) { return device ? failed(kInvalidDevice) : kSuccess; }
Error cudaGetDeviceCount(int* count) { *count = 1; return kSuccess; }
Error cudaDeviceSynchronize() { return kSuccess; }
Error cudaDriverGetVersion(int* version) { *version = 13000; return kSuccess; }
Error cudaRuntimeGetVersion(int* version) { *version = 13000; return kSuccess; }
Error cudaMemGetInfo(std::size_t* free, std::size_t* total);

Error cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long, int* found) {
  *function = nullptr;
  if (found) *found = 1;  // cudaDriverEntryPointSymbolNotFound
  return kSuccess;
}

// Numbers are cudaDeviceAttr's.
Error cudaDeviceGetAttribute(int* value, int attribute, int) {
  const Card& c = card();
  switch (attribute) {
    case 1: *value = 1024; break;                         // MaxThreadsPerBlock
    case 5: *value = 2147483647; break;                   // MaxGridDimX
    case 6: case 7: *value = 65535; break;                // MaxGridDimY, Z
    case 8: *value = 48 << 10; break;                     // MaxSharedMemoryPerBlock
    case 10: *value = 32; break;                          // WarpSize
    case 12: *value = 65536; break;                       // MaxRegistersPerBlock
    case 16: *value = c.multiprocessors; break;           // MultiProcessorCount
    case 38: *value = 32 << 20; break;                    // L2CacheSize
    case 39: *value = c.threads; break;                   // MaxThreadsPerMultiProcessor
    case 75: *value = c.sm / 10; break;                   // ComputeCapabilityMajor
    case 76: *value = c.sm % 10; break;                   // ComputeCapabilityMinor
    case 81: *value = int(c.shared); break;               // MaxSharedMemoryPerMultiprocessor
    case 95: *value = 1; break;                           // CooperativeLaunch
    case 97: *value = int(c.shared_of_block); break;      // MaxSharedMemoryPerBlockOptin
    case 115: *value = 1; break;                          // MemoryPoolsSupported
    default: *value = 0; standin_log("attribute %d", attribute);
  }
  return kSuccess;
}

// Offsets are cudaDeviceProp's, of CUDA 13, which is 1,008 bytes.
Error cudaGetDeviceProperties(char* properties, int) {
  const Card& c = card();
  std::size_t free, total;
  cudaMemGetInfo(&free, &total);
  std::memset(properties, 0, 1008);
  std::snprintf(properties, 256, "Stand-in sm_%d", c.sm);
  auto whole = [&](int offset, std::size_t value) { std::memcpy(properties + offset, &value, 8); };
  auto half = [&](int offset, int value) { std::memcpy(properties + offset, &value, 4); };
  whole(288, total);
  whole(296, 48 << 10);           // sharedMemPerBlock
  half(304, 65536);               // regsPerBlock
  half(308, 32);                  // warpSize
  whole(312, 2147483647);         // memPitch
  half(320, 1024);                // maxThreadsPerBlock
  half(324, 1024); half(328, 1024); half(332, 64);           // maxThreadsDim
  half(336, 2147483647); half(340, 65535); half(344, 65535); // maxGridSize
  whole(352, 65536);              // totalConstMem
  half(360, c.sm / 10); half(364, c.sm % 10);
  whole(368, 512);                // textureAlignment
  half(384, c.multiprocessors);
  half(560, 1);                   // concurrentKernels
  half(588, 1);                   // unifiedAddressing
  half(596, 32 << 20);            // l2CacheSize
  half(604, c.threads);
  whole(624, c.shared);
  half(632, 65536);               // regsPerMultiprocessor
  half(636, 1);                   // managedMemory
  half(668, 1);                   // cooperativeLaunch
  whole(672, c.shared_of_block);
  half(688, 16);                  // maxBlocksPerMultiProcessor
  whole(696, 1024);               // reservedSharedMemPerBlock
  half(720, 1);                   // memoryPoolsSupported
  return kSuccess;
}

}  // extern "C"
