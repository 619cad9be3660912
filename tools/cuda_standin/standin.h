// What the parts of the stand-in share. Declarations of CUDA's own interface are ours, of CUDA 13's documented ABI.
#pragma once

#include <cstddef>
#include <cstdint>

struct Size3 {  // dim3 and uint3
  unsigned x, y, z;
};

using Handle = void*;  // a stream, an event, a graph, a pool, cuBLAS's own state

enum Error {  // of cudaError_t, those that are returned here
  kSuccess = 0,
  kInvalidValue = 1,
  kMemoryAllocation = 2,
  kInvalidConfiguration = 9,
  kInvalidDevice = 101,
  kNotSupported = 801,
};

// One GPU model, as kernels and their choosers see it.
struct Card {
  int sm;                        // compute capability, ten times
  int multiprocessors;
  int threads;                   // of a multiprocessor
  std::size_t shared_of_block;   // bytes of shared memory that a block may ask for
  std::size_t shared;            // bytes of shared memory of a multiprocessor
};

const Card& card();

// Environment: STANDIN_SM (89), STANDIN_GB (12), STANDIN_LOG (no log).
long environment(const char* name, long otherwise);

// Remembers what cudaGetLastError is to say.
Error failed(Error error);

extern "C" {
// A line of the log, printf-like.
void standin_log(const char* format, ...) __attribute__((format(printf, 1, 2)));
}
