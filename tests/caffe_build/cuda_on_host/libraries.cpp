// cuBLAS over the host's CBLAS and cuRAND over <random>, with every pointer's range checked. See README.md.
#include <cblas.h>
#include <cublas_v2.h>
#include <curand.h>

#include <cstring>
#include <random>

#include "cuda_on_host.hpp"

using cuda_on_host::calls;
using cuda_on_host::check_device;

struct cuda_on_host_cublas {};
struct cuda_on_host_curand { std::mt19937_64 engine; };

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new cuda_on_host_cublas;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetStream(cublasHandle_t, cudaStream_t* stream) {
  *stream = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}

namespace {

CBLAS_TRANSPOSE cblas(cublasOperation_t op) { return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }

// What a column-major matrix of `rows` x `columns` spans, in elements.
size_t span(int rows, int columns, int ld) { return rows && columns ? size_t(columns - 1) * ld + rows : 0; }

// What a batch of matrices spans; the matrices that are written must not overlap.
size_t batch_span(size_t one, long long stride, int batch, bool written, const char* call) {
  if (stride < 0 || (written && batch > 1 && size_t(stride) < one))
    cuda_on_host::fail(std::string(call) + ": the matrices of a written batch overlap");
  return size_t(stride) * (batch - 1) + one;
}

template <typename T>
void check(const T* pointer, size_t count, const char* call) { check_device(pointer, count * sizeof(T), call); }

// What is written must not be read by the same call: the library computes in an order of its own.
template <typename T>
void check_apart(const T* written, size_t written_count, const T* read, size_t read_count, const char* call) {
  if (written < read + read_count && read < written + written_count)
    cuda_on_host::fail(std::string(call) + ": it writes what it reads");
}

}  // namespace

#define DEFINE_CUBLAS(T, L, l) \
  cublasStatus_t cublas##L##gemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, \
      int k, const T* alpha, const T* A, int lda, const T* B, int ldb, const T* beta, T* C, int ldc) { \
    const char* call = "cublas" #L "gemm"; \
    ++calls()[call]; \
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED; \
    if (m < 0 || n < 0 || k < 0 || lda < std::max(1, transa ? k : m) || ldb < std::max(1, transb ? n : k) || \
        ldc < std::max(1, m)) return CUBLAS_STATUS_INVALID_VALUE; \
    check(A, transa ? span(k, m, lda) : span(m, k, lda), call); \
    check(B, transb ? span(n, k, ldb) : span(k, n, ldb), call); \
    check(C, span(m, n, ldc), call); \
    check_apart(C, span(m, n, ldc), A, transa ? span(k, m, lda) : span(m, k, lda), call); \
    check_apart(C, span(m, n, ldc), B, transb ? span(n, k, ldb) : span(k, n, ldb), call); \
    cblas_##l##gemm(CblasColMajor, cblas(transa), cblas(transb), m, n, k, *alpha, A, lda, B, ldb, *beta, C, ldc); \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##L##gemmStridedBatched(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, \
      int m, int n, int k, const T* alpha, const T* A, int lda, long long strideA, const T* B, int ldb, \
      long long strideB, const T* beta, T* C, int ldc, long long strideC, int batchCount) { \
    const char* call = "cublas" #L "gemmStridedBatched"; \
    ++calls()[call]; \
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED; \
    if (m < 0 || n < 0 || k < 0 || batchCount < 0 || lda < std::max(1, transa ? k : m) || \
        ldb < std::max(1, transb ? n : k) || ldc < std::max(1, m)) return CUBLAS_STATUS_INVALID_VALUE; \
    if (batchCount == 0) return CUBLAS_STATUS_SUCCESS; \
    const size_t a = batch_span(transa ? span(k, m, lda) : span(m, k, lda), strideA, batchCount, false, call); \
    const size_t b = batch_span(transb ? span(n, k, ldb) : span(k, n, ldb), strideB, batchCount, false, call); \
    const size_t c = batch_span(span(m, n, ldc), strideC, batchCount, true, call); \
    check(A, a, call); \
    check(B, b, call); \
    check(C, c, call); \
    check_apart(C, c, A, a, call); \
    check_apart(C, c, B, b, call); \
    for (int i = 0; i < batchCount; ++i) \
      cblas_##l##gemm(CblasColMajor, cblas(transa), cblas(transb), m, n, k, *alpha, A + i * strideA, lda, \
                      B + i * strideB, ldb, *beta, C + i * strideC, ldc); \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##L##gemv(cublasHandle_t handle, cublasOperation_t trans, int m, int n, const T* alpha, \
      const T* A, int lda, const T* x, int incx, const T* beta, T* y, int incy) { \
    const char* call = "cublas" #L "gemv"; \
    ++calls()[call]; \
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED; \
    if (m < 0 || n < 0 || lda < std::max(1, m) || incx != 1 || incy != 1) return CUBLAS_STATUS_INVALID_VALUE; \
    check(A, span(m, n, lda), call); \
    check(x, trans ? m : n, call); \
    check(y, trans ? n : m, call); \
    check_apart(y, trans ? n : m, A, span(m, n, lda), call); \
    check_apart(y, trans ? n : m, x, trans ? m : n, call); \
    if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS; /* y stays what it was, as BLAS has it */ \
    if (*beta == 0) std::memset(y, 0, sizeof(T) * (trans ? n : m)); /* y may hold NaN: not every CBLAS overwrites it */ \
    cblas_##l##gemv(CblasColMajor, cblas(trans), m, n, *alpha, A, lda, x, incx, *beta, y, incy); \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##L##axpy(cublasHandle_t, int n, const T* alpha, const T* x, int incx, T* y, int incy) { \
    ++calls()["cublas" #L "axpy"]; \
    check(x, n, "cublas" #L "axpy"); \
    check(y, n, "cublas" #L "axpy"); \
    cblas_##l##axpy(n, *alpha, x, incx, y, incy); \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##L##scal(cublasHandle_t, int n, const T* alpha, T* x, int incx) { \
    ++calls()["cublas" #L "scal"]; \
    check(x, n, "cublas" #L "scal"); \
    cblas_##l##scal(n, *alpha, x, incx); \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##L##copy(cublasHandle_t, int n, const T* x, int incx, T* y, int incy) { \
    ++calls()["cublas" #L "copy"]; \
    check(x, n, "cublas" #L "copy"); \
    check(y, n, "cublas" #L "copy"); \
    cblas_##l##copy(n, x, incx, y, incy); \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##L##dot(cublasHandle_t, int n, const T* x, int incx, const T* y, int incy, T* result) { \
    ++calls()["cublas" #L "dot"]; \
    check(x, n, "cublas" #L "dot"); \
    check(y, n, "cublas" #L "dot"); \
    *result = cblas_##l##dot(n, x, incx, y, incy); \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##L##asum(cublasHandle_t, int n, const T* x, int incx, T* result) { \
    ++calls()["cublas" #L "asum"]; \
    check(x, n, "cublas" #L "asum"); \
    *result = cblas_##l##asum(n, x, incx); \
    return CUBLAS_STATUS_SUCCESS; \
  }
DEFINE_CUBLAS(float, S, s)
DEFINE_CUBLAS(double, D, d)

curandStatus_t curandCreateGenerator(curandGenerator_t* generator, curandRngType_t) {
  *generator = new cuda_on_host_curand;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
  delete generator;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator, unsigned long long seed) {
  generator->engine.seed(seed);
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOffset(curandGenerator_t generator, unsigned long long offset) {
  generator->engine.discard(offset);
  return CURAND_STATUS_SUCCESS;
}

namespace {
template <typename T, typename Distribution>
curandStatus_t generate(curandGenerator_t generator, T* out, size_t n, Distribution distribution, const char* call) {
  ++calls()[call];
  check(out, n, call);
  for (size_t i = 0; i < n; ++i) out[i] = distribution(generator->engine);
  return CURAND_STATUS_SUCCESS;
}
}  // namespace

curandStatus_t curandGenerate(curandGenerator_t generator, unsigned* out, size_t n) {
  return generate(generator, out, n, std::uniform_int_distribution<unsigned>(), "curandGenerate");
}
curandStatus_t curandGenerateUniform(curandGenerator_t generator, float* out, size_t n) {
  return generate(generator, out, n, std::uniform_real_distribution<float>(), "curandGenerateUniform");
}
curandStatus_t curandGenerateUniformDouble(curandGenerator_t generator, double* out, size_t n) {
  return generate(generator, out, n, std::uniform_real_distribution<double>(), "curandGenerateUniformDouble");
}
curandStatus_t curandGenerateNormal(curandGenerator_t generator, float* out, size_t n, float mean, float stddev) {
  return generate(generator, out, n, std::normal_distribution<float>(mean, stddev), "curandGenerateNormal");
}
curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator, double* out, size_t n, double mean, double stddev) {
  return generate(generator, out, n, std::normal_distribution<double>(mean, stddev), "curandGenerateNormalDouble");
}
