// What the stand-in checks and counts. See ../README.md.
#ifndef CUDA_ON_HOST_HPP_
#define CUDA_ON_HOST_HPP_

#include <cstddef>
#include <functional>
#include <map>
#include <string>

#include <cuda_runtime.h>

namespace cuda_on_host {

// Calls since the last reset, by the name of the kernel or of the library function.
std::map<std::string, int>& calls();

// Aborts unless [pointer, pointer + bytes) lies within one device allocation.
void check_device(const void* pointer, size_t bytes, const char* call);

// Checks and counts a launch, and runs it.
void launch(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);

// Runs a kernel: block after block, and in a block thread after thread, from barrier to barrier.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);

// What `extern __shared__` names: the bytes that the launch asked for, NaN at the beginning of each block.
void* shared_memory();

// __syncthreads()
void wait_for_block();

// Prints a line and aborts: a mistake in the code under test that a GPU would not report, or not reliably.
[[noreturn]] void fail(const std::string& message);

}  // namespace cuda_on_host

#endif  // CUDA_ON_HOST_HPP_
