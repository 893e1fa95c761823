#include <cuda_runtime.h>  // all that Caffe needs of this header; see ../README.md
