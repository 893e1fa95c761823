// Counts what one iteration of a convolution layer asks of the GPU: kernels and library calls, by name.
//
//   count_calls [TYPE [BATCH [GROUP [CHANNELS [SIZE [KERNEL]]]]]]     e.g. count_calls Convolution 32 16 256 14 3
//
// TYPE is Convolution or Deconvolution, with cuDNN also CuDNNConvolution or CuDNNDeconvolution.
// One line per kernel or function, "name calls", then "total calls". Memory copies and sets are no part of it.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/layers/conv_layer.hpp"
#include "caffe/layers/deconv_layer.hpp"
#ifdef USE_CUDNN
#include "caffe/layers/cudnn_conv_layer.hpp"
#include "caffe/layers/cudnn_deconv_layer.hpp"
#endif
#include "cuda_on_host.hpp"

using caffe::Blob;
using caffe::Caffe;
using caffe::Layer;

namespace {

int argument(int argc, char** argv, int i, int otherwise) { return argc > i ? std::atoi(argv[i]) : otherwise; }

caffe::LayerParameter layer_parameter(int group, int channels, int kernel) {
  caffe::LayerParameter parameter;
  parameter.set_name("counted");
  caffe::ConvolutionParameter* convolution = parameter.mutable_convolution_param();
  convolution->set_num_output(channels);
  convolution->set_group(group);
  convolution->add_kernel_size(kernel);
  convolution->add_pad(kernel / 2);
  convolution->mutable_weight_filler()->set_type("gaussian");
  return parameter;
}

Layer<float>* make_layer(const std::string& type, const caffe::LayerParameter& parameter) {
  if (type == "Convolution") return new caffe::ConvolutionLayer<float>(parameter);
  if (type == "Deconvolution") return new caffe::DeconvolutionLayer<float>(parameter);
#ifdef USE_CUDNN
  if (type == "CuDNNConvolution") return new caffe::CuDNNConvolutionLayer<float>(parameter);
  if (type == "CuDNNDeconvolution") return new caffe::CuDNNDeconvolutionLayer<float>(parameter);
#endif
  cuda_on_host::fail("no layer type " + type);
}

void fill(Blob<float>* blob, float value) {
  std::fill_n(blob->mutable_cpu_data(), blob->count(), value);
  std::fill_n(blob->mutable_cpu_diff(), blob->count(), value);
  blob->gpu_data();
  blob->gpu_diff();
}

}  // namespace

int main(int argc, char** argv) {
  FLAGS_minloglevel = google::ERROR;
  google::InitGoogleLogging(argv[0]);
  const int batch = argument(argc, argv, 2, 32), group = argument(argc, argv, 3, 16);
  const int channels = argument(argc, argv, 4, 256), size = argument(argc, argv, 5, 14);
  Caffe::set_mode(Caffe::GPU);
  const std::unique_ptr<Layer<float>> layer(
      make_layer(argc > 1 ? argv[1] : "Convolution", layer_parameter(group, channels, argument(argc, argv, 6, 3))));

  Blob<float> bottom(batch, channels, size, size), top;
  const std::vector<Blob<float>*> bottoms(1, &bottom), tops(1, &top);
  layer->SetUp(bottoms, tops);
  fill(&bottom, 1);
  fill(&top, 1);
  for (int i = 0; i < 2; ++i) {  // the first iteration also sets up constants: count the second
    cuda_on_host::calls().clear();
    layer->Forward(bottoms, tops);
    layer->Backward(tops, {true}, bottoms);
  }
  int total = 0;
  for (const auto& call : cuda_on_host::calls()) {
    if (!call.first.compare(0, 7, "cudaMem")) continue;
    std::printf("%s %d\n", call.first.c_str(), call.second);
    total += call.second;
  }
  std::printf("total %d\n", total);
}
