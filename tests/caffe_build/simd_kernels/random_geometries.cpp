// The CPU kernels of the conv series against sums in double, on random geometries, with no Caffe around them:
//
//   random_geometries SET CASES      SET: 0 baseline, 1 avx2, 2 avx512, 3 avx512 in halves
//
// Prints the worst error, relative to each array's largest value; exit status 1 where it is more than rounding.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "caffe/util/forward_tail.hpp"
#include "caffe/util/grouped_conv.hpp"
#include "caffe/util/simd.hpp"

using std::vector;

// In the place of simd.cpp, which reads the environment and wants glog: here the program's caller chooses.
static int chosen, threads = 1;
caffe::SimdSet caffe::BestSimdSet() { return static_cast<caffe::SimdSet>(std::min<int>(chosen, SIMD_SET_AVX512)); }
bool caffe::Avx512InHalves() { return chosen > SIMD_SET_AVX512; }
int caffe::MaxThreads() { return threads; }
int caffe::ThreadNumber() { return 0; }  // one thread, which takes the tasks of all

static std::mt19937 engine(1);
static int any(int from, int to) { return std::uniform_int_distribution<int>(from, to)(engine); }

// Rows of a few elements, with three taps side by side or apart, of few channels or many: the former may go row by row.
static caffe::ConvGeometry random_rows() {
  const int channels[] = {4, 8, 16, 32, 96, 112};
  caffe::ConvGeometry g;
  g.num = any(1, 2);
  g.group = any(1, 2);
  g.channels = g.group * channels[any(0, 5)];
  g.num_output = g.group * channels[any(0, 5)];
  for (int axes = any(1, 3); axes > 0; --axes) {
    const int kernel = axes == 1 ? 3 : any(1, 3), dilation = any(0, 2) ? 1 : 2;
    const int pad = axes == 1 ? dilation : any(0, 1), extent = dilation * (kernel - 1) + 1;
    const int input = axes == 1 ? any(6, 15) : any(extent, 5);
    g.kernel.push_back(kernel);
    g.dilation.push_back(dilation);
    g.stride.push_back(1);
    g.pad.push_back(pad);
    g.input.push_back(input);
    g.output.push_back(input + 2 * pad - extent + 1);
  }
  return g;
}

// At most so many products that a case takes milliseconds.
static caffe::ConvGeometry random_geometry() {
  if (any(0, 5) == 0) { return random_rows(); }
  const int channels[] = {1, 2, 3, 4, 8, 12, 16, 20, 32, 40, 48, 80};  // odd numbers of vectors, too
  caffe::ConvGeometry g;
  const int axes = any(0, 9) ? 2 : any(1, 3);
  g.num = any(0, 3) ? any(1, 3) : 8;
  const bool pointwise = any(0, 3) == 0;  // which has kernels of its own, without groups
  g.group = pointwise ? 1 : any(1, 3);
  g.channels = g.group * channels[any(0, 11)];
  g.num_output = g.group * channels[any(0, 11)];
  if (pointwise && any(0, 2) == 0) { g.channels = g.num_output = g.group = any(2, 5); }  // depthwise
  for (int d = 0; d < axes; ++d) {
    const int kernel = pointwise ? 1 : any(1, 4), dilation = any(0, 3) ? 1 : 2, stride = any(0, 1) ? 1 : any(1, 3);
    const int pad = pointwise ? 0 : any(0, 3);
    const int output = axes == 3 ? any(1, 5) : any(1, 24), extent = dilation * (kernel - 1) + 1;
    const int input = std::max(1, stride * (output - 1) + extent - 2 * pad + any(0, stride - 1));
    g.kernel.push_back(kernel);
    g.dilation.push_back(dilation);
    g.stride.push_back(stride);
    g.pad.push_back(pad);
    g.input.push_back(input);
    g.output.push_back((input + 2 * pad - extent) / stride + 1);  // as Caffe divides: of a smaller image one
  }
  return g;
}

static int product(const vector<int>& sizes) {
  int all = 1;
  for (int size : sizes) { all *= size; }
  return all;
}

// visit(input, output, filter) for all elements that meet.
template <typename Visit>
static void each_product(const caffe::ConvGeometry& g, Visit visit) {
  const int in_plane = product(g.input), out_plane = product(g.output), taps = product(g.kernel);
  const int channels = g.channels / g.group, outputs = g.num_output / g.group;
  for (int o = 0; o < out_plane; ++o) {
    for (int k = 0; k < taps; ++k) {
      int at = 0, step = 1, o_left = o, k_left = k;
      bool inside = true;
      for (int d = g.input.size() - 1; d >= 0; --d) {
        const int i = o_left % g.output[d] * g.stride[d] + k_left % g.kernel[d] * g.dilation[d] - g.pad[d];
        inside = inside && i >= 0 && i < g.input[d];
        at += i * step;
        step *= g.input[d];
        o_left /= g.output[d];
        k_left /= g.kernel[d];
      }
      for (int n = 0; inside && n < g.num; ++n) {
        for (int m = 0; m < g.num_output; ++m) {
          for (int c = 0; c < channels; ++c) {
            visit((n * g.channels + m / outputs * channels + c) * in_plane + at, (n * g.num_output + m) * out_plane + o,
                  (m * channels + c) * taps + k);
          }
        }
      }
    }
  }
}

template <typename Dtype>
static vector<Dtype> random_values(size_t count) {
  std::normal_distribution<Dtype> normal;
  vector<Dtype> values(count);
  for (Dtype& value : values) { value = normal(engine); }
  return values;
}

template <typename Dtype>
static double error(const vector<Dtype>& found, const vector<double>& expected) {
  double largest = 1, worst = 0;
  for (double value : expected) { largest = std::max(largest, std::fabs(value)); }
  for (size_t i = 0; i < expected.size(); ++i) {
    const double off = std::fabs(found[i] - expected[i]) / largest;
    worst = off <= worst ? worst : std::isnan(off) ? INFINITY : off;
  }
  return worst;
}

// A tail with random parts, which makes "sum" of the results and "addend".
template <typename Dtype>
static caffe::ForwardTail<Dtype> random_tail(const vector<Dtype>& addend, vector<Dtype>* sum) {
  caffe::ForwardTail<Dtype> tail = {};
  tail.rectified = any(0, 1);
  if (any(0, 1)) {
    tail.addend = addend.data();
    tail.sum = sum->data();
    tail.sum_rectified = any(0, 1);
  }
  return tail;
}

// The first element of "values" at a line of the cache, where results that only a tail reads go past it.
template <typename Dtype>
static Dtype* at_line(vector<Dtype>* values) {
  const size_t line = 64, past = reinterpret_cast<size_t>(values->data()) % line;
  return values->data() + (line - past) % line / sizeof(Dtype);
}

template <typename Dtype>
static double check(const caffe::ConvGeometry& g) {
  const int in_plane = product(g.input), out_plane = product(g.output);
  const vector<Dtype> x = random_values<Dtype>(g.num * g.channels * in_plane);
  const vector<Dtype> dy = random_values<Dtype>(g.num * g.num_output * out_plane);
  const vector<Dtype> w = random_values<Dtype>(g.num_output * (g.channels / g.group) * product(g.kernel));
  const vector<Dtype> bias = random_values<Dtype>(g.num_output);
  vector<Dtype> y(dy.size(), NAN), dx(x.size(), NAN), dw(w.size(), 1), with_tail(y.size() + 16, NAN);
  const vector<Dtype> addend = random_values<Dtype>(y.size());
  vector<Dtype> sum(y.size(), NAN);
  const caffe::ForwardTail<Dtype> tail = random_tail(addend, &sum);
  Dtype* const results = any(0, 3) ? at_line(&with_tail) : with_tail.data();
  caffe::GroupedConvolution<Dtype> conv;
  conv.Reshape(g);
  conv.Forward(x.data(), w.data(), bias.data(), y.data());
  conv.Forward(x.data(), w.data(), bias.data(), results, &tail);
  // In a blob of more channels, whose others stay as they are.
  const int image = g.num_output * out_plane, apart = image + any(1, 3) * out_plane, before = any(0, 1) * out_plane;
  vector<Dtype> among(g.num * apart + before, -7);
  caffe::ConvGeometry placed = g;
  placed.output_image = apart;
  caffe::GroupedConvolution<Dtype> to_place;
  to_place.Reshape(placed);
  to_place.Forward(x.data(), w.data(), bias.data(), among.data() + before);
  conv.Transposed(dy.data(), w.data(), nullptr, dx.data());
  conv.FilterGradient(x.data(), dy.data(), dw.data());
  vector<double> expected_y(y.size()), expected_dx(x.size()), expected_dw(w.size(), 1);
  for (size_t i = 0; i < y.size(); ++i) { expected_y[i] = bias[i / out_plane % g.num_output]; }
  each_product(g, [&](int i, int o, int k) {
    expected_y[o] += double(x[i]) * w[k];
    expected_dx[i] += double(dy[o]) * w[k];
    expected_dw[k] += double(dy[o]) * x[i];
  });
  for (size_t i = 0; i < among.size(); ++i) {
    const int at = static_cast<int>(i) - before;
    const bool inside = at >= 0 && at % apart < image;
    if (among[i] != (inside ? y[at / apart * image + at % apart] : -7)) { return INFINITY; }
  }
  for (size_t i = 0; i < y.size(); ++i) {  // bit by bit
    const Dtype result = tail.rectified && y[i] < 0 ? 0 : y[i], added = result + addend[i];
    if (results[i] != result) { return INFINITY; }
    if (tail.addend && sum[i] != (tail.sum_rectified && added < 0 ? 0 : added)) { return INFINITY; }
  }
  return std::max({error(y, expected_y), error(dx, expected_dx), error(dw, expected_dw)});
}

int main(int count, char** words) {
  if (count != 3) { return 2; }
  chosen = std::atoi(words[1]);
  double worst = 0, worst_double = 0;
  for (int i = 0; i < std::atoi(words[2]); ++i) {
    threads = any(1, 6);  // of plans: how they split what there is to do
    const caffe::ConvGeometry g = random_geometry();
    worst = std::max(worst, check<float>(g));
    worst_double = std::max(worst_double, check<double>(g));
  }
  std::printf("%.2g %.2g\n", worst, worst_double);
  return worst < 2e-5 && worst_double < 1e-13 ? 0 : 1;
}
