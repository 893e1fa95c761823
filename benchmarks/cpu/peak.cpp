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

constexpr int kChains = 10;  // as many as latency times units, and fewer than registers
constexpr long kSteps = 20000000;
constexpr size_t kBytes = size_t(1) << 27;  // well beyond the caches, for each thread
constexpr int kTurns = 20;

float MultiplyAdd(float x, float y) {
  Vector k, s;
  for (int i = 0; i < kFloats; ++i) {
    k[i] = x;
    s[i] = y;
  }
  Vector a = s, b = s + 1, c = s + 2, d = s + 3, e = s + 4, f = s + 5, g = s + 6, h = s + 7, i = s + 8, j = s + 9;
  for (long step = 0; step < kSteps; ++step) {
    a = a * k + s, b = b * k + s, c = c * k + s, d = d * k + s, e = e * k + s;
    f = f * k + s, g = g * k + s, h = h * k + s, i = i * k + s, j = j * k + s;
  }
  Vector total = a + b + c + d + e + f + g + h + i + j;
  return total[0];
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
