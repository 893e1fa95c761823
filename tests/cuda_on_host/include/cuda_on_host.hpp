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

// Runs a kernel, one thread after the other.
void launch(const char* kernel, dim3 grid, dim3 block, const std::function<void()>& thread);

// __syncthreads(): false ends the thread in the first of the two runs that a kernel with a barrier gets.
bool pass_barrier();

// Prints a line and aborts: a mistake in the code under test that a GPU would not report, or not reliably.
[[noreturn]] void fail(const std::string& message);

}  // namespace cuda_on_host

#endif  // CUDA_ON_HOST_HPP_
