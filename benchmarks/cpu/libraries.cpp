// Times oneDNN and LIBXSMM on grouped convolutions, forward: a child process of run.py, which compiles it.
//
//   libraries ENGINE < JOBS > MILLISECONDS     a line "channels size num_output kernel group batch" for each job
//
// onednn           from NCHW blobs to NCHW blobs: oneDNN's own layouts inside, data reordered in every pass
// onednn blocked   the same without reordering data: what a net that stays in oneDNN's layouts would pay
// libxsmm          a JIT-compiled product for each filter tap, on zero-padded copies of the input, per image and group
//
// Filters are brought into each engine's layout once, before the clock starts.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#ifdef WITH_ONEDNN
#include <dnnl.hpp>
#endif
#ifdef WITH_LIBXSMM
#include <libxsmm.h>
#endif

struct Job {
  int channels, size, num_output, kernel, group, batch;
  std::vector<float> input, filters, output;
};

// Milliseconds of one run: the median of at least 7 runs and 0.15 s, after 2 to warm up.
double Median(const std::function<void()>& run) {
  typedef std::chrono::steady_clock Clock;
  std::vector<double> times;
  double sum = 0;
  for (int i = 0; times.size() < 7 || sum < 0.15; ++i) {
    const Clock::time_point start = Clock::now();
    run();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (i >= 2) {
      times.push_back(seconds);
      sum += seconds;
    }
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return 1e3 * times[times.size() / 2];
}

// Stops the program if results differ from the definition (every 97th is looked at).
void Check(const Job& job) {
  const int c = job.channels / job.group, m = job.num_output / job.group, k = job.kernel, s = job.size;
  for (size_t i = 0; i < job.output.size(); i += 97) {
    const int x = i % s, y = i / s % s, out = i / s / s % job.num_output, n = i / s / s / job.num_output;
    double sum = 0;
    for (int from = 0; from < c; ++from) {
      for (int tap = 0; tap < k * k; ++tap) {
        const int v = y + tap / k - k / 2, u = x + tap % k - k / 2;
        if (v < 0 || u < 0 || v >= s || u >= s) { continue; }
        const size_t at = ((static_cast<size_t>(n) * job.channels + out / m * c + from) * s + v) * s + u;
        sum += job.filters[(static_cast<size_t>(out) * c + from) * k * k + tap] * job.input[at];
      }
    }
    if (!(std::abs(sum - job.output[i]) <= 1e-3 * std::max(1., std::abs(sum)))) {
      std::fprintf(stderr, "libraries: result %zu is %g, the definition gives %g\n", i, job.output[i], sum);
      std::exit(1);
    }
  }
}

#ifdef WITH_ONEDNN
double OneDnn(Job* job, bool blocked) {
  using namespace dnnl;  // NOLINT: its names fill this function
  typedef memory::format_tag Tag;
  const engine cpu(engine::kind::cpu, 0);
  stream queue(cpu);
  const int g = job->group, k = job->kernel;
  const memory::dims in = {job->batch, job->channels, job->size, job->size};
  const memory::dims out = {job->batch, job->num_output, job->size, job->size};
  const memory::dims filter = {g, job->num_output / g, job->channels / g, k, k};
  const auto f32 = memory::data_type::f32;
  const memory::desc any_in(in, f32, Tag::any), any_out(out, f32, Tag::any), any_filter(filter, f32, Tag::any);
  const memory::dims pad = {k / 2, k / 2};
  const convolution_forward::desc what(prop_kind::forward_inference, algorithm::convolution_auto, any_in, any_filter,
                                       any_out, {1, 1}, pad, pad);
  const convolution_forward::primitive_desc how(what, cpu);
  memory x({in, f32, Tag::nchw}, cpu, job->input.data()), y({out, f32, Tag::nchw}, cpu, job->output.data());
  memory w({filter, f32, Tag::goihw}, cpu, job->filters.data());
  memory own_x(how.src_desc(), cpu), own_y(how.dst_desc(), cpu), own_w(how.weights_desc(), cpu);
  reorder to_w(w, own_w), to_x(x, own_x), to_y(own_y, y);
  convolution_forward convolve(how);
  const auto run = [&](bool data) {
    if (data) { to_x.execute(queue, x, own_x); }
    convolve.execute(queue, {{DNNL_ARG_SRC, own_x}, {DNNL_ARG_WEIGHTS, own_w}, {DNNL_ARG_DST, own_y}});
    if (data) { to_y.execute(queue, own_y, y); }
    queue.wait();
  };
  to_w.execute(queue, w, own_w);
  run(true);
  Check(*job);
  return Median([&] { run(!blocked); });
}
#endif

#ifdef WITH_LIBXSMM
double Libxsmm(Job* job) {
  const int g = job->group, k = job->kernel, s = job->size, pitch = s + k / 2;
  const int c = job->channels / g, m = job->num_output / g;
  const int flat = (s - 1) * pitch + s, plane = (s + k - 1) * pitch + k;  // results; elements with their padding
  std::vector<float> taps(job->filters.size());  // [group][tap][output][channel]
  for (int out = 0; out < job->num_output; ++out) {
    for (int i = 0; i < c * k * k; ++i) {
      taps[(((out / m) * k * k + i % (k * k)) * m + out % m) * c + i / (k * k)] = job->filters[out * c * k * k + i];
    }
  }
  const float one = 1, zero = 0;
  const libxsmm_smmfunction set = libxsmm_smmdispatch(flat, m, c, &plane, &c, &flat, &one, &zero, NULL, NULL);
  const libxsmm_smmfunction add = libxsmm_smmdispatch(flat, m, c, &plane, &c, &flat, &one, &one, NULL, NULL);
  if (!set || !add) { return NAN; }
  const auto run = [&] {
#pragma omp parallel
    {
      std::vector<float> padded(static_cast<size_t>(plane) * c), sums(static_cast<size_t>(flat) * m);
#pragma omp for
      for (int task = 0; task < job->batch * g; ++task) {
        const float* from = &job->input[static_cast<size_t>(task) * c * s * s];
        float* to = &job->output[static_cast<size_t>(task) * m * s * s];
        for (int row = 0; row < c * s; ++row) {
          std::memcpy(&padded[row / s * plane + (row % s + k / 2) * pitch + k / 2], from + row * s, s * sizeof(float));
        }
        for (int tap = 0; tap < k * k; ++tap) {
          (tap ? add : set)(&padded[tap / k * pitch + tap % k], &taps[(task % g * k * k + tap) * m * c], sums.data());
        }
        for (int row = 0; row < m * s; ++row) {
          std::memcpy(to + row * s, &sums[row / s * flat + row % s * pitch], s * sizeof(float));
        }
      }
    }
  };
  run();
  Check(*job);
  return Median(run);
}
#endif

int main(int, char** arguments) {
  const std::string engine(arguments[1]);
  Job job;
  while (std::scanf("%d %d %d %d %d %d", &job.channels, &job.size, &job.num_output, &job.kernel, &job.group,
                    &job.batch) == 6) {
    const size_t plane = static_cast<size_t>(job.size) * job.size;
    job.input.resize(job.batch * job.channels * plane);
    job.output.assign(job.batch * job.num_output * plane, NAN);
    job.filters.resize(static_cast<size_t>(job.num_output) * (job.channels / job.group) * job.kernel * job.kernel);
    for (float& x : job.input) { x = std::rand() / float(RAND_MAX) - 0.5f; }
    for (float& x : job.filters) { x = std::rand() / float(RAND_MAX) - 0.5f; }
    double milliseconds = NAN;
#ifdef WITH_ONEDNN
    if (engine.rfind("onednn", 0) == 0) { milliseconds = OneDnn(&job, engine == "onednn blocked"); }
#endif
#ifdef WITH_LIBXSMM
    if (engine == "libxsmm") { milliseconds = Libxsmm(&job); }
#endif
    std::printf("%.6f\n", milliseconds);
  }
}
