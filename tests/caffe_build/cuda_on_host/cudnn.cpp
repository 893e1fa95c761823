// cuDNN's convolutions as naive sums, with descriptors and every pointer's range checked. See README.md.
#include <cudnn.h>

#include <cstring>

#include "cuda_on_host.hpp"

using cuda_on_host::calls;
using cuda_on_host::check_device;

struct cuda_on_host_cudnn {};
struct cuda_on_host_tensor { cudnnDataType_t type; int n, c, h, w, stride[4]; };
struct cuda_on_host_filter { cudnnDataType_t type; int k, c, h, w; };
struct cuda_on_host_convolution { int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, group; };

const char* cudnnGetErrorString(cudnnStatus_t status) {
#define NAME(code) \
  case code: return #code;
  switch (status) {
    NAME(CUDNN_STATUS_SUCCESS)
    NAME(CUDNN_STATUS_NOT_INITIALIZED)
    NAME(CUDNN_STATUS_BAD_PARAM)
    NAME(CUDNN_STATUS_BAD_PARAM_NULL_POINTER)
    NAME(CUDNN_STATUS_NOT_SUPPORTED)
  }
#undef NAME
  return "CUDNN_UNKNOWN_STATUS";
}

#define CREATE_AND_DESTROY(What, type, handle_type) \
  cudnnStatus_t cudnnCreate##What(handle_type* created) { \
    *created = new type(); \
    return CUDNN_STATUS_SUCCESS; \
  } \
  cudnnStatus_t cudnnDestroy##What(handle_type created) { \
    delete created; \
    return CUDNN_STATUS_SUCCESS; \
  }
CREATE_AND_DESTROY(, cuda_on_host_cudnn, cudnnHandle_t)
CREATE_AND_DESTROY(TensorDescriptor, cuda_on_host_tensor, cudnnTensorDescriptor_t)
CREATE_AND_DESTROY(FilterDescriptor, cuda_on_host_filter, cudnnFilterDescriptor_t)
CREATE_AND_DESTROY(ConvolutionDescriptor, cuda_on_host_convolution, cudnnConvolutionDescriptor_t)

cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int n, int c, int h,
    int w, int n_stride, int c_stride, int h_stride, int w_stride) {
  if (n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
  *tensor = {type, n, c, h, w, {n_stride, c_stride, h_stride, w_stride}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type, cudnnTensorFormat_t,
    int k, int c, int h, int w) {
  if (k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
  *filter = {type, k, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convolution, int pad_h, int pad_w,
    int stride_h, int stride_w, int dilation_h, int dilation_w, cudnnConvolutionMode_t, cudnnDataType_t) {
  const int group = convolution->group ? convolution->group : 1;
  *convolution = {pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, group};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t convolution, int group) {
  convolution->group = group;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t, cudnnMathType_t) { return CUDNN_STATUS_SUCCESS; }

namespace {

size_t bytes_of(const cuda_on_host_tensor& t) {
  const size_t count = 1 + size_t(t.n - 1) * t.stride[0] + size_t(t.c - 1) * t.stride[1] +
                       size_t(t.h - 1) * t.stride[2] + size_t(t.w - 1) * t.stride[3];
  return count * (t.type == CUDNN_DATA_FLOAT ? 4 : 8);
}

size_t bytes_of(const cuda_on_host_filter& f) {
  return size_t(f.k) * f.c * f.h * f.w * (f.type == CUDNN_DATA_FLOAT ? 4 : 8);
}

size_t at(const cuda_on_host_tensor& t, int n, int c, int h, int w) {
  return size_t(n) * t.stride[0] + size_t(c) * t.stride[1] + size_t(h) * t.stride[2] + size_t(w) * t.stride[3];
}

// Whether x, filter and y are the sizes that the convolution gives. A filter must not be larger than the padded x: that
// is among cuDNN's documented reasons for BAD_PARAM.
bool fits(const cuda_on_host_tensor& x, const cuda_on_host_filter& f, const cuda_on_host_convolution& c,
          const cuda_on_host_tensor& y) {
  const int height = (x.h + 2 * c.pad_h - (c.dilation_h * (f.h - 1) + 1)) / c.stride_h + 1;
  const int width = (x.w + 2 * c.pad_w - (c.dilation_w * (f.w - 1) + 1)) / c.stride_w + 1;
  if (c.dilation_h * (f.h - 1) >= x.h + 2 * c.pad_h || c.dilation_w * (f.w - 1) >= x.w + 2 * c.pad_w) return false;
  return x.n == y.n && x.c == f.c * c.group && y.c == f.k && y.c % c.group == 0 && y.h == height && y.w == width &&
         x.type == f.type && y.type == f.type;
}

// visit(index in x, index in the filter, index in y) for each product of the convolution.
template <typename Visit>
void each_product(const cuda_on_host_tensor& x, const cuda_on_host_filter& f, const cuda_on_host_convolution& c,
                  const cuda_on_host_tensor& y, Visit visit) {
  for (int n = 0; n < y.n; ++n)
    for (int k = 0; k < y.c; ++k)
      for (int h = 0; h < y.h; ++h)
        for (int w = 0; w < y.w; ++w)
          for (int channel = 0; channel < f.c; ++channel)
            for (int i = 0; i < f.h; ++i)
              for (int j = 0; j < f.w; ++j) {
                const int from_h = h * c.stride_h - c.pad_h + i * c.dilation_h;
                const int from_w = w * c.stride_w - c.pad_w + j * c.dilation_w;
                if (from_h < 0 || from_w < 0 || from_h >= x.h || from_w >= x.w) continue;
                visit(at(x, n, k / (y.c / c.group) * f.c + channel, from_h, from_w),
                      ((size_t(k) * f.c + channel) * f.h + i) * f.w + j, at(y, n, k, h, w));
              }
}

// result = alpha * sums + beta * result, where `add` makes the sums, in double.
template <typename T, typename Add>
void accumulate(const void* alpha, const void* beta, void* result, size_t bytes, Add add) {
  const size_t count = bytes / sizeof(T);
  T* out = static_cast<T*>(result);
  const T scale = *static_cast<const T*>(beta), factor = *static_cast<const T*>(alpha);
  double* sums = new double[count]();
  add(sums);
  for (size_t i = 0; i < count; ++i) out[i] = T(factor * sums[i]) + (scale == 0 ? T(0) : scale * out[i]);
  delete[] sums;
}

// Algorithms 0 need no workspace; algorithms 1 want 1000 bytes. The heuristics take those for faster; run, they are not,
// and algorithms 2 are fastest, by tensor cores.
const size_t kBytes = 1000;
const int kTensorCores = 2;

template <typename Perf>
cudnnStatus_t list(int requested, int* returned, Perf* perf) {
  *returned = std::min(requested, 2);
  for (int i = 0; i < *returned; ++i)
    perf[i] = {decltype(perf->algo)(1 - i), CUDNN_STATUS_SUCCESS, (1 - i) * kBytes, CUDNN_FMA_MATH};
  return CUDNN_STATUS_SUCCESS;
}

// What the Find functions do to the result that is tried on, and to the workspace; what they list.
template <typename Perf>
cudnnStatus_t find(const char* call, cudnnHandle_t handle, void* result, size_t result_bytes, void* workspace,
    size_t bytes, int requested, int* returned, Perf* perf) {
  ++calls()[call];
  if (!handle) return CUDNN_STATUS_NOT_INITIALIZED;
  check_device(result, result_bytes, call);
  std::memset(result, 0xff, result_bytes);
  if (bytes) {
    check_device(workspace, bytes, call);
    std::memset(workspace, 0xff, bytes);
  }
  typedef decltype(perf->algo) Algo;
  const Perf found[] = {
      {Algo(kTensorCores), CUDNN_STATUS_SUCCESS, 0, CUDNN_TENSOR_OP_MATH},
      {Algo(0), CUDNN_STATUS_SUCCESS, 0, CUDNN_FMA_MATH},
      {Algo(1), bytes < kBytes ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS, kBytes, CUDNN_FMA_MATH}};
  *returned = std::min(requested, 3);
  std::copy(found, found + *returned, perf);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t workspace_size(int algo, size_t* bytes) {
  *bytes = algo == 1 ? kBytes : 0;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t begin(const char* call, cudnnHandle_t handle, int algo, void* workspace, size_t bytes) {
  ++calls()[std::string(call) + (algo ? "/" + std::to_string(algo) : "")];
  if (!handle) return CUDNN_STATUS_NOT_INITIALIZED;
  if (bytes < (algo == 1 ? kBytes : 0)) return CUDNN_STATUS_BAD_PARAM;
  if (algo == 1) {
    check_device(workspace, bytes, call);
    std::memset(workspace, 0xff, bytes);
  }
  return CUDNN_STATUS_SUCCESS;
}

template <typename T>
void forward(const void* alpha, const cuda_on_host_tensor& xd, const void* x, const cuda_on_host_filter& wd,
             const void* w, const cuda_on_host_convolution& c, const void* beta, const cuda_on_host_tensor& yd, void* y) {
  accumulate<T>(alpha, beta, y, bytes_of(yd), [&](double* sums) {
    each_product(xd, wd, c, yd, [&](size_t i, size_t k, size_t o) {
      sums[o] += double(static_cast<const T*>(x)[i]) * static_cast<const T*>(w)[k];
    });
  });
}

template <typename T>
void backward_data(const void* alpha, const cuda_on_host_filter& wd, const void* w, const cuda_on_host_tensor& yd,
                   const void* dy, const cuda_on_host_convolution& c, const void* beta, const cuda_on_host_tensor& xd,
                   void* dx) {
  accumulate<T>(alpha, beta, dx, bytes_of(xd), [&](double* sums) {
    each_product(xd, wd, c, yd, [&](size_t i, size_t k, size_t o) {
      sums[i] += double(static_cast<const T*>(dy)[o]) * static_cast<const T*>(w)[k];
    });
  });
}

template <typename T>
void backward_filter(const void* alpha, const cuda_on_host_tensor& xd, const void* x, const cuda_on_host_tensor& yd,
                     const void* dy, const cuda_on_host_convolution& c, const void* beta,
                     const cuda_on_host_filter& wd, void* dw) {
  accumulate<T>(alpha, beta, dw, bytes_of(wd), [&](double* sums) {
    each_product(xd, wd, c, yd, [&](size_t i, size_t k, size_t o) {
      sums[k] += double(static_cast<const T*>(dy)[o]) * static_cast<const T*>(x)[i];
    });
  });
}

template <typename T>
void backward_bias(const void* alpha, const cuda_on_host_tensor& yd, const void* dy, const void* beta,
                   const cuda_on_host_tensor& bd, void* db) {
  accumulate<T>(alpha, beta, db, bytes_of(bd), [&](double* sums) {
    for (int n = 0; n < yd.n; ++n)
      for (int k = 0; k < yd.c; ++k)
        for (int h = 0; h < yd.h; ++h)
          for (int w = 0; w < yd.w; ++w) sums[at(bd, 0, k, 0, 0)] += static_cast<const T*>(dy)[at(yd, n, k, h, w)];
  });
}

template <typename T>
void add_tensor(const void* alpha, const cuda_on_host_tensor& ad, const void* a, const void* beta,
                const cuda_on_host_tensor& cd, void* c) {
  accumulate<T>(alpha, beta, c, bytes_of(cd), [&](double* sums) {
    for (int n = 0; n < cd.n; ++n)
      for (int k = 0; k < cd.c; ++k)
        for (int h = 0; h < cd.h; ++h)
          for (int w = 0; w < cd.w; ++w) sums[at(cd, n, k, h, w)] = static_cast<const T*>(a)[at(ad, 0, k, 0, 0)];
  });
}

}  // namespace

// Calls the float or the double version, by a descriptor's type.
#define BY_TYPE(desc, function, ...) \
  do { \
    if ((desc)->type == CUDNN_DATA_FLOAT) function<float>(__VA_ARGS__); \
    else function<double>(__VA_ARGS__); \
  } while (0)

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
    cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t c, cudnnTensorDescriptor_t y, int requested, int* returned,
    cudnnConvolutionFwdAlgoPerf_t* perf) {
  return fits(*x, *w, *c, *y) ? list(requested, returned, perf) : CUDNN_STATUS_BAD_PARAM;
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
    cudnnTensorDescriptor_t y, cudnnConvolutionDescriptor_t c, cudnnFilterDescriptor_t w, int requested, int* returned,
    cudnnConvolutionBwdFilterAlgoPerf_t* perf) {
  return fits(*x, *w, *c, *y) ? list(requested, returned, perf) : CUDNN_STATUS_BAD_PARAM;
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, cudnnFilterDescriptor_t w,
    cudnnTensorDescriptor_t y, cudnnConvolutionDescriptor_t c, cudnnTensorDescriptor_t x, int requested, int* returned,
    cudnnConvolutionBwdDataAlgoPerf_t* perf) {
  return fits(*x, *w, *c, *y) ? list(requested, returned, perf) : CUDNN_STATUS_BAD_PARAM;
}
cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t handle, cudnnTensorDescriptor_t x, const void*,
    cudnnFilterDescriptor_t w, const void*, cudnnConvolutionDescriptor_t c, cudnnTensorDescriptor_t y, void* y_data,
    int requested, int* returned, cudnnConvolutionFwdAlgoPerf_t* perf, void* workspace, size_t bytes) {
  if (!fits(*x, *w, *c, *y)) return CUDNN_STATUS_BAD_PARAM;
  return find("cudnnFindForward", handle, y_data, bytes_of(*y), workspace, bytes, requested, returned, perf);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t handle, cudnnTensorDescriptor_t x, const void*,
    cudnnTensorDescriptor_t y, const void*, cudnnConvolutionDescriptor_t c, cudnnFilterDescriptor_t w, void* w_diff,
    int requested, int* returned, cudnnConvolutionBwdFilterAlgoPerf_t* perf, void* workspace, size_t bytes) {
  if (!fits(*x, *w, *c, *y)) return CUDNN_STATUS_BAD_PARAM;
  return find("cudnnFindBackwardFilter", handle, w_diff, bytes_of(*w), workspace, bytes, requested, returned, perf);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t handle, cudnnFilterDescriptor_t w, const void*,
    cudnnTensorDescriptor_t y, const void*, cudnnConvolutionDescriptor_t c, cudnnTensorDescriptor_t x, void* x_diff,
    int requested, int* returned, cudnnConvolutionBwdDataAlgoPerf_t* perf, void* workspace, size_t bytes) {
  if (!fits(*x, *w, *c, *y)) return CUDNN_STATUS_BAD_PARAM;
  return find("cudnnFindBackwardData", handle, x_diff, bytes_of(*x), workspace, bytes, requested, returned, perf);
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t, cudnnFilterDescriptor_t,
    cudnnConvolutionDescriptor_t, cudnnTensorDescriptor_t, cudnnConvolutionFwdAlgo_t algo, size_t* bytes) {
  return workspace_size(algo, bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t,
    cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t, cudnnFilterDescriptor_t,
    cudnnConvolutionBwdFilterAlgo_t algo, size_t* bytes) {
  return workspace_size(algo, bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, cudnnFilterDescriptor_t,
    cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t, cudnnTensorDescriptor_t, cudnnConvolutionBwdDataAlgo_t algo,
    size_t* bytes) {
  return workspace_size(algo, bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t x_desc,
    const void* x, cudnnFilterDescriptor_t w_desc, const void* w, cudnnConvolutionDescriptor_t convolution,
    cudnnConvolutionFwdAlgo_t algo, void* workspace, size_t bytes, const void* beta, cudnnTensorDescriptor_t y_desc,
    void* y) {
  const char* call = "cudnnConvolutionForward";
  if (auto bad = begin(call, handle, algo, workspace, bytes)) return bad;
  if (!fits(*x_desc, *w_desc, *convolution, *y_desc)) return CUDNN_STATUS_BAD_PARAM;
  check_device(x, bytes_of(*x_desc), call);
  check_device(w, bytes_of(*w_desc), call);
  check_device(y, bytes_of(*y_desc), call);
  if (x == y) cuda_on_host::fail(std::string(call) + ": it writes what it reads");
  BY_TYPE(x_desc, forward, alpha, *x_desc, x, *w_desc, w, *convolution, beta, *y_desc, y);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha, cudnnFilterDescriptor_t w_desc,
    const void* w, cudnnTensorDescriptor_t dy_desc, const void* dy, cudnnConvolutionDescriptor_t convolution,
    cudnnConvolutionBwdDataAlgo_t algo, void* workspace, size_t bytes, const void* beta,
    cudnnTensorDescriptor_t dx_desc, void* dx) {
  const char* call = "cudnnConvolutionBackwardData";
  if (auto bad = begin(call, handle, algo, workspace, bytes)) return bad;
  if (!fits(*dx_desc, *w_desc, *convolution, *dy_desc)) return CUDNN_STATUS_BAD_PARAM;
  check_device(w, bytes_of(*w_desc), call);
  check_device(dy, bytes_of(*dy_desc), call);
  check_device(dx, bytes_of(*dx_desc), call);
  if (dx == dy) cuda_on_host::fail(std::string(call) + ": it writes what it reads");
  BY_TYPE(dx_desc, backward_data, alpha, *w_desc, w, *dy_desc, dy, *convolution, beta, *dx_desc, dx);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t x_desc,
    const void* x, cudnnTensorDescriptor_t dy_desc, const void* dy, cudnnConvolutionDescriptor_t convolution,
    cudnnConvolutionBwdFilterAlgo_t algo, void* workspace, size_t bytes, const void* beta,
    cudnnFilterDescriptor_t dw_desc, void* dw) {
  const char* call = "cudnnConvolutionBackwardFilter";
  if (auto bad = begin(call, handle, algo, workspace, bytes)) return bad;
  if (!fits(*x_desc, *dw_desc, *convolution, *dy_desc)) return CUDNN_STATUS_BAD_PARAM;
  check_device(x, bytes_of(*x_desc), call);
  check_device(dy, bytes_of(*dy_desc), call);
  check_device(dw, bytes_of(*dw_desc), call);
  BY_TYPE(x_desc, backward_filter, alpha, *x_desc, x, *dy_desc, dy, *convolution, beta, *dw_desc, dw);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionBackwardBias(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t dy_desc,
    const void* dy, const void* beta, cudnnTensorDescriptor_t db_desc, void* db) {
  const char* call = "cudnnConvolutionBackwardBias";
  if (auto bad = begin(call, handle, 0, nullptr, 0)) return bad;
  if (db_desc->c != dy_desc->c) return CUDNN_STATUS_BAD_PARAM;
  check_device(dy, bytes_of(*dy_desc), call);
  check_device(db, bytes_of(*db_desc), call);
  BY_TYPE(dy_desc, backward_bias, alpha, *dy_desc, dy, beta, *db_desc, db);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnAddTensor(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t a_desc, const void* a,
    const void* beta, cudnnTensorDescriptor_t c_desc, void* c) {
  const char* call = "cudnnAddTensor";
  if (auto bad = begin(call, handle, 0, nullptr, 0)) return bad;
  if (a_desc->c != c_desc->c) return CUDNN_STATUS_BAD_PARAM;
  check_device(a, bytes_of(*a_desc), call);
  check_device(c, bytes_of(*c_desc), call);
  BY_TYPE(c_desc, add_tensor, alpha, *a_desc, a, beta, *c_desc, c);
  return CUDNN_STATUS_SUCCESS;
}
