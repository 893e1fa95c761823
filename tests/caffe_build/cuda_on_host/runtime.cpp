// The CUDA runtime on host memory, and the checks. See README.md.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "cuda_on_host.hpp"

namespace cuda_on_host {

static std::mutex mutex;
static std::map<const char*, size_t> allocations;  // device memory: address -> bytes
static size_t used = 0;
static cudaError_t last_error = cudaSuccess;

// The device's bytes, beyond which cudaMalloc fails: CUDA_ON_HOST_MEMORY, else 80 GiB.
static size_t memory_from_environment() {
  const char* text = std::getenv("CUDA_ON_HOST_MEMORY");
  return text ? std::strtoull(text, nullptr, 10) : size_t(80) << 30;
}
static const size_t memory = memory_from_environment();

void fail(const std::string& message) {
  std::fprintf(stderr, "cuda_on_host: %s\n", message.c_str());
  std::abort();
}

std::map<std::string, int>& calls() {
  static std::map<std::string, int> counts;
  return counts;
}

static void count(const char* name) {
  std::lock_guard<std::mutex> lock(mutex);
  ++calls()[name];
}

// The bytes from `pointer` to the end of its allocation; 0 where it points into none.
static size_t bytes_left(const void* pointer) {
  const char* address = static_cast<const char*>(pointer);
  std::lock_guard<std::mutex> lock(mutex);
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return 0;
  --next;
  const size_t offset = address - next->first;
  return offset < next->second ? next->second - offset : 0;
}

void check_device(const void* pointer, size_t bytes, const char* call) {
  const size_t left = bytes_left(pointer);
  if (bytes <= left) return;
  char where[64];
  std::snprintf(where, sizeof where, "%p", pointer);
  fail(std::string(call) + " reaches " + std::to_string(bytes) + " bytes from " + where + ", " +
       (left ? "of which only " + std::to_string(left) + " are allocated" : "which is no device memory"));
}

void launch(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  const size_t kMostShared = 48 << 10;  // without cudaFuncSetAttribute
  count(kernel);
  const size_t threads = size_t(block.x) * block.y * block.z;
  if (!threads || threads > 1024 || !grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || shared_bytes > kMostShared) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  run_grid(grid, block, shared_bytes, thread);
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (bytes == 0) return last_error = cudaErrorInvalidValue;
  std::lock_guard<std::mutex> lock(mutex);
  if (bytes > memory - std::min(memory, used)) return last_error = cudaErrorMemoryAllocation;
  char* data = static_cast<char*>(std::malloc(bytes));
  if (!data) return last_error = cudaErrorMemoryAllocation;
  std::memset(data, 0xff, bytes);  // NaN, in float and in double: whoever reads what nobody wrote will notice
  allocations[data] = bytes;
  used += bytes;
  *pointer = data;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (!pointer) return cudaSuccess;
  std::lock_guard<std::mutex> lock(mutex);
  auto allocation = allocations.find(static_cast<char*>(pointer));
  if (allocation == allocations.end()) fail("cudaFree of what cudaMalloc did not give");
  used -= allocation->second;
  allocations.erase(allocation);
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (bytes == 0) return last_error = cudaErrorInvalidValue;
  *pointer = std::malloc(bytes);
  return *pointer ? cudaSuccess : last_error = cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  count("cudaMemset");
  if (bytes) {
    check_device(pointer, bytes, "cudaMemset");
    std::memset(pointer, value, bytes);
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  count("cudaMemcpy");
  if (bytes_left(to)) check_device(to, bytes, "cudaMemcpy to");
  if (bytes_left(from)) check_device(from, bytes, "cudaMemcpy from");
  if (bytes) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : last_error = cudaErrorInvalidValue; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof *properties);
  std::strcpy(properties->name, "CUDA on the host");
  properties->major = 9;
  properties->multiProcessorCount = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 0;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void*) {
  attributes->device = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    default: return "invalid argument";
  }
}
