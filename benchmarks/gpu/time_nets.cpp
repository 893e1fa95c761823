// Times nets, or layers of them, on the GPU.
//
//   time_nets SECONDS LAYER NET.prototxt...        LAYER: a layer's name, - for the whole net, + for all its layers
//
// Per net a line "NET forward_ms backward_ms iterations", medians of CUDA events over at least 3 iterations and about
// SECONDS. A net's passes are Net::Forward and Net::Backward; a layer's are its own, with the gradient of its bottom. With
// + a line per layer, "NET:LAYER ...", on what an iteration left in its blobs, with the gradients that training takes.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "caffe/caffe.hpp"

using caffe::Blob;
using caffe::Caffe;
using caffe::Net;

namespace {

float milliseconds(const std::function<void()>& work) {
  static cudaEvent_t begin = nullptr, end = nullptr;
  if (!begin) {
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
  }
  CUDA_CHECK(cudaEventRecord(begin));
  work();
  CUDA_CHECK(cudaEventRecord(end));
  CUDA_CHECK(cudaEventSynchronize(end));
  float elapsed = 0;
  CUDA_CHECK(cudaEventElapsedTime(&elapsed, begin, end));
  return elapsed;
}

float median(std::vector<float> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void time_passes(const std::string& net, double seconds, const std::function<void()>& forward,
                 const std::function<void()>& backward) {
  for (int i = 0; i < 2; ++i) {
    forward();
    backward();
  }
  CUDA_CHECK(cudaDeviceSynchronize());
  std::vector<float> forwards, backwards;
  const auto start = std::chrono::steady_clock::now();
  while (forwards.size() < 3 ||
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds) {
    forwards.push_back(milliseconds(forward));
    backwards.push_back(milliseconds(backward));
  }
  std::printf("%s %.5f %.5f %zu\n", net.c_str(), median(forwards), median(backwards), forwards.size());
  std::fflush(stdout);
}

// Random values: a GPU may run faster on zeros.
void fill(Blob<float>* blob) {
  caffe::caffe_rng_gaussian<float>(blob->count(), 0, 1, blob->mutable_cpu_data());
  caffe::caffe_rng_gaussian<float>(blob->count(), 0, 1, blob->mutable_cpu_diff());
  blob->gpu_data();
  blob->gpu_diff();
}

// Images at random, labels 0.
void fill_inputs(Net<float>* net) {
  for (Blob<float>* blob : net->input_blobs()) {
    if (blob->num_axes() > 1) fill(blob);
  }
}

void time_layer(Net<float>* net, const std::string& path, const std::string& name, double seconds) {
  const auto& names = net->layer_names();
  const size_t i = std::find(names.begin(), names.end(), name) - names.begin();
  CHECK_LT(i, names.size()) << path << " has no layer " << name;
  caffe::Layer<float>* layer = net->layers()[i].get();
  const std::vector<Blob<float>*>&bottoms = net->bottom_vecs()[i], &tops = net->top_vecs()[i];
  for (Blob<float>* blob : bottoms) fill(blob);
  for (Blob<float>* blob : tops) fill(blob);
  const std::vector<bool> propagate(bottoms.size(), true);
  time_passes(path, seconds, [&] { layer->Forward(bottoms, tops); }, [&] { layer->Backward(tops, propagate, bottoms); });
}

void time_layers(Net<float>* net, const std::string& path, double seconds) {
  fill_inputs(net);
  net->Forward();
  net->Backward();
  for (size_t i = 0; i < net->layers().size(); ++i) {
    caffe::Layer<float>* layer = net->layers()[i].get();
    if (net->bottom_vecs()[i].empty()) continue;
    const std::vector<Blob<float>*>&bottoms = net->bottom_vecs()[i], &tops = net->top_vecs()[i];
    const std::vector<bool>& wanted = net->bottom_need_backward()[i];
    time_passes(path + ":" + net->layer_names()[i], seconds, [&] { layer->Forward(bottoms, tops); },
                [&] { if (net->layer_need_backward()[i]) layer->Backward(tops, wanted, bottoms); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: time_nets SECONDS LAYER NET.prototxt...\n");
    return 2;
  }
  FLAGS_minloglevel = google::WARNING;
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  Caffe::set_mode(Caffe::GPU);
  Caffe::set_random_seed(1);
  const double seconds = std::atof(argv[1]);
  for (int i = 3; i < argc; ++i) {
    std::unique_ptr<Net<float>> net(new Net<float>(argv[i], caffe::TRAIN));
    if (std::string(argv[2]) == "-") {
      fill_inputs(net.get());
      time_passes(argv[i], seconds, [&] { net->Forward(); }, [&] { net->Backward(); });
    } else if (std::string(argv[2]) == "+") {
      time_layers(net.get(), argv[i], seconds);
    } else {
      time_layer(net.get(), argv[i], argv[2], seconds);
    }
  }
}
