// What a core can do at most: multiply-adds of registers, and memory copied to memory.
//
//     c++ -O3 -march=native -fopenmp peak.cpp -o peak && OMP_NUM_THREADS=2 ./peak
//
// Prints 1e9 multiply-adds of floats per second and 1e9 bytes read and written per second, the best of several turns.

#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
constexpr int kFloats = 16;
#else
constexpr int kFloats = 8;
#endif
typedef float Vector __attribute__((vector_size(4 * kFloats)));

constexpr int kChains = 12;  // more than latency times units of any core, fewer than its registers
constexpr long kSteps = 20000000;
constexpr size_t kBytes = size_t(1) << 27;  // well beyond the caches, for each thread
constexpr int kTurns = 5;

float MultiplyAdd(float x, float y) {
  Vector sums[kChains], factor, summand;
  for (int i = 0; i < kFloats; ++i) {
    factor[i] = x;
    summand[i] = y;
  }
  for (int c = 0; c < kChains; ++c) sums[c] = summand + float(c);
  for (long step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      sums[c] = sums[c] * factor + summand;
      asm volatile("" : "+x"(sums[c]));  // neither reordered nor left out
    }
  }
  float total = 0;
  for (int c = 0; c < kChains; ++c) total += sums[c][0];
  return total;
}

int main() {
  double rate = 0, bytes = 0;
  int threads = omp_get_max_threads();
  float sink = 0;
  std::vector<std::vector<char>> from(threads), to(threads);
#pragma omp parallel
  {
    from[omp_get_thread_num()].assign(kBytes, 1);
    to[omp_get_thread_num()].assign(kBytes, 2);
  }
  for (int turn = 0; turn < kTurns; ++turn) {
    double begun = omp_get_wtime();
#pragma omp parallel reduction(+ : sink)
    sink += MultiplyAdd(0.999f, 0.001f);
    rate = std::max(rate, 1e-9 * threads * kSteps * kChains * kFloats / (omp_get_wtime() - begun));
    begun = omp_get_wtime();
#pragma omp parallel
    {
      int own = omp_get_thread_num();
      std::memcpy(to[own].data(), from[own].data(), kBytes);
    }
    bytes = std::max(bytes, 1e-9 * threads * 2 * kBytes / (omp_get_wtime() - begun));
  }
  std::printf("%.2f %.2f\n", rate, bytes);
  return sink == 0.5f;
}
