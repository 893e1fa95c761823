// The layer type "Python", registered when pycaffe is imported.
//
// Stock Caffe registers it in libcaffe, which then needs libpython, and so does every tool. Here libcaffe and the tools
// need no Python, and pycaffe works in interpreters that are linked statically (as those of pyenv, uv and conda are).
#include <boost/python.hpp>

#include "caffe/layer_factory.hpp"
#include "caffe/layers/python_layer.hpp"

namespace caffe {

template <typename Dtype>
shared_ptr<Layer<Dtype>> MakePythonLayer(const LayerParameter& param) {
  const PythonParameter& python = param.python_param();
  try {
    bp::object module = bp::import(python.module().c_str());
    bp::object layer = module.attr(python.layer().c_str())(param);
    return bp::extract<shared_ptr<PythonLayer<Dtype>>>(layer)();
  } catch (const bp::error_already_set&) {
    PyErr_Print();
    throw;
  }
}

REGISTER_LAYER_CREATOR(Python, MakePythonLayer);

}  // namespace caffe
