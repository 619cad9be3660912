// libcudart: memory. Addresses are reserved and can be neither read nor written; results come out as zeros.

#include "standin.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <sys/mman.h>

static constexpr std::size_t kPage = 2 << 20;
static constexpr std::size_t kContext = 400'000'000;  // what CUDA itself holds

static std::mutex mutex;
static std::map<char*, std::size_t> held;  // address → bytes taken
static std::set<void*> on_host;
static std::size_t now, peak;
static long refusals;

static std::size_t& total() {
  static std::size_t bytes = [] {
    const char* text = std::getenv("STANDIN_GB");
    return std::size_t((text ? std::atof(text) : 12.0) * 1e9);
  }();
  return bytes;
}

// Above 1 MiB the driver gives whole pages of 2 MiB; smaller ones share pages.
static std::size_t in_pages(std::size_t bytes) {
  std::size_t unit = bytes > (1 << 20) ? kPage : 512;
  return (bytes + unit - 1) / unit * unit;
}

static Error take(void** address, std::size_t bytes) {
  std::lock_guard<std::mutex> guard(mutex);
  std::size_t taken = in_pages(bytes);
  *address = nullptr;
  if (refusals > 0 || kContext + now + taken > total()) {
    if (refusals > 0) --refusals;
    standin_log("full %zu %zu", bytes, now);
    return failed(kMemoryAllocation);
  }
  void* place = mmap(nullptr, taken ? taken : 512, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return failed(kMemoryAllocation);
  held[static_cast<char*>(place)] = taken;
  now += taken;
  if (now > peak) peak = now;
  standin_log("take %zu %zu", bytes, now);
  *address = place;
  return kSuccess;
}

static Error give_back(void* address) {
  if (!address) return kSuccess;
  std::lock_guard<std::mutex> guard(mutex);
  auto found = held.find(static_cast<char*>(address));
  if (found == held.end()) return failed(kInvalidValue);
  std::size_t taken = found->second;
  held.erase(found);
  now -= taken;
  standin_log("give %zu %zu", taken, now);
  munmap(address, taken ? taken : 512);
  return kSuccess;
}

static bool on_card(const void* address) {
  std::lock_guard<std::mutex> guard(mutex);
  auto next = held.upper_bound(static_cast<char*>(const_cast<void*>(address)));
  if (next == held.begin()) return false;
  --next;
  return address < next->first + next->second;
}

static Error copy(void* to, const void* from, std::size_t bytes, std::size_t rows = 1, std::size_t pitch_to = 0,
                  std::size_t pitch_from = 0) {
  bool to_card = on_card(to), from_card = on_card(from);
  standin_log("copy %s%s %zu", from_card ? "D" : "H", to_card ? "D" : "H", bytes * rows);
  for (std::size_t row = 0; row < rows && !to_card; ++row) {
    char* place = static_cast<char*>(to) + row * pitch_to;
    if (from_card)
      std::memset(place, 0, bytes);
    else
      std::memmove(place, static_cast<const char*>(from) + row * pitch_from, bytes);
  }
  return kSuccess;
}

extern "C" {

// For a test, by ctypes: bytes held now and at most, in pages; the next `count` allocations fail; another size of card.
std::size_t standin_held() { std::lock_guard<std::mutex> guard(mutex); return now; }
std::size_t standin_peak() { std::lock_guard<std::mutex> guard(mutex); return peak; }
void standin_reset_peak() { std::lock_guard<std::mutex> guard(mutex); peak = now; }
void standin_refuse(long count) { std::lock_guard<std::mutex> guard(mutex); refusals = count; }
void standin_resize(std::size_t bytes) { std::lock_guard<std::mutex> guard(mutex); total() = bytes; }

Error cudaMalloc(void** address, std::size_t bytes) { return take(address, bytes); }
Error cudaMallocFromPoolAsync(void** address, std::size_t bytes, Handle, Handle) { return take(address, bytes); }
Error cudaFree(void* address) { return give_back(address); }
Error cudaFreeAsync(void* address, Handle) { return give_back(address); }

Error cudaMemGetInfo(std::size_t* free, std::size_t* all) {
  std::lock_guard<std::mutex> guard(mutex);
  *all = total();
  *free = total() > kContext + now ? total() - kContext - now : 0;
  return kSuccess;
}

Error cudaMallocHost(void** address, std::size_t bytes) {
  *address = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  std::lock_guard<std::mutex> guard(mutex);
  on_host.insert(*address);
  return *address ? kSuccess : failed(kMemoryAllocation);
}
Error cudaHostAlloc(void** address, std::size_t bytes, unsigned) { return cudaMallocHost(address, bytes); }
Error cudaFreeHost(void* address) {
  std::lock_guard<std::mutex> guard(mutex);
  on_host.erase(address);
  std::free(address);
  return kSuccess;
}

Error cudaMemcpy(void* to, const void* from, std::size_t bytes, int) { return copy(to, from, bytes); }
Error cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, int, Handle) { return copy(to, from, bytes); }
Error cudaMemcpy2DAsync(void* to, std::size_t pitch_to, const void* from, std::size_t pitch_from, std::size_t width,
                        std::size_t height, int, Handle) {
  return copy(to, from, width, height, pitch_to, pitch_from);
}
Error cudaMemcpyFromSymbol(void* to, const void*, std::size_t bytes, std::size_t, int) {
  std::memset(to, 0, bytes);
  return kSuccess;
}
Error cudaMemset(void* to, int value, std::size_t bytes) {
  if (!on_card(to)) std::memset(to, value, bytes);
  return kSuccess;
}
Error cudaMemsetAsync(void* to, int value, std::size_t bytes, Handle) { return cudaMemset(to, value, bytes); }

// cudaPointerAttributes: type at 0 (0 unregistered, 1 host, 2 device), device 4, devicePointer 8, hostPointer 16; 88 bytes.
Error cudaPointerGetAttributes(char* attributes, const void* address) {
  bool device = on_card(address);
  std::lock_guard<std::mutex> guard(mutex);
  int type = device ? 2 : on_host.count(const_cast<void*>(address)) ? 1 : 0;
  std::memset(attributes, 0, 88);
  std::memcpy(attributes, &type, 4);
  std::memcpy(attributes + (device ? 8 : 16), &address, 8);
  return kSuccess;
}

}  // extern "C"
