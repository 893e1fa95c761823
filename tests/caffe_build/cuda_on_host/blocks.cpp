// Runs kernels on the host: a block's threads one after the other, each until its next barrier. See README.md.
#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda_on_host.hpp"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace cuda_on_host {

namespace {

// A stack on which threads run. A thread that waits keeps its fiber; threads that end share one.
struct Fiber {
  static constexpr size_t kStackBytes = 256 << 10;
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
};

// The launch in progress.
const std::function<void()>* kernel = nullptr;
unsigned threads = 0, begun = 0;     // of the block
Fiber* running = nullptr;            // nullptr: the scheduler
std::vector<Fiber*> waiting;         // at a barrier, in the order of their threads
std::vector<Fiber*> idle;
std::vector<std::unique_ptr<Fiber>> fibers;
ucontext_t scheduler;
std::unique_ptr<char[]> shared;

#ifdef __SANITIZE_ADDRESS__
// AddressSanitizer has to know which stack is in use.
void* scheduler_fake_stack;
const void* scheduler_stack;
size_t scheduler_stack_bytes;
void leave_for_fiber(Fiber* fiber) {
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber->stack.get(), Fiber::kStackBytes);
}
void back_in_scheduler() { __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr); }
void leave_for_scheduler(void** fake_stack) {
  __sanitizer_start_switch_fiber(fake_stack, scheduler_stack, scheduler_stack_bytes);
}
void back_in_fiber(void* fake_stack) {
  __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack, &scheduler_stack_bytes);
}
#else
void leave_for_fiber(Fiber*) {}
void back_in_scheduler() {}
void leave_for_scheduler(void**) {}
void back_in_fiber(void*) {}
#endif

// Runs threads that have not begun, one after the other.
void work() {
  back_in_fiber(nullptr);
  while (begun < threads) {
    const unsigned i = begun++;
    threadIdx = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y));
    (*kernel)();
  }
  idle.push_back(running);
  leave_for_scheduler(nullptr);
  setcontext(&scheduler);
}

void run(Fiber* fiber) {
  running = fiber;
  leave_for_fiber(fiber);
  swapcontext(&scheduler, &fiber->context);
  back_in_scheduler();
  running = nullptr;
}

Fiber* fresh_fiber() {
  if (idle.empty()) {
    fibers.emplace_back(new Fiber);
    idle.push_back(fibers.back().get());
  }
  Fiber* fiber = idle.back();
  idle.pop_back();
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack.get();
  fiber->context.uc_stack.ss_size = Fiber::kStackBytes;
  makecontext(&fiber->context, work, 0);
  return fiber;
}

void run_block() {
  begun = 0;
  while (begun < threads) run(fresh_fiber());
  while (!waiting.empty()) {
    if (waiting.size() != threads) fail("a __syncthreads() that not every thread of the block reaches");
    std::vector<Fiber*> round;
    round.swap(waiting);
    for (Fiber* fiber : round) run(fiber);
  }
}

}  // namespace

void wait_for_block() {
  Fiber* const self = running;
  const dim3 index = threadIdx;
  void* fake_stack = nullptr;
  waiting.push_back(self);
  leave_for_scheduler(&fake_stack);
  swapcontext(&self->context, &scheduler);
  back_in_fiber(fake_stack);
  threadIdx = index;
}

void* shared_memory() { return shared.get(); }

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  kernel = &thread;
  gridDim = grid;
  blockDim = block;
  threads = block.x * block.y * block.z;
  shared.reset(new char[shared_bytes]);
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
        std::memset(shared.get(), 0xff, shared_bytes);  // NaN, as device memory begins
        run_block();
      }
}

}  // namespace cuda_on_host
