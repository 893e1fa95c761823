# The target caffe_dependencies: libraries, include folders and definitions that the options ask for.
add_library(caffe_dependencies INTERFACE)

# require_library(NAME HEADER LIBRARY...): find and add a library that ships no CMake package, or say what is missing.
function(require_library name header)
  find_path(${name}_INCLUDE_DIR ${header} PATH_SUFFIXES openblas)
  find_library(${name}_LIBRARY NAMES ${ARGN})
  if(NOT ${name}_INCLUDE_DIR OR NOT ${name}_LIBRARY)
    message(FATAL_ERROR "missing ${name}: ${header} is at '${${name}_INCLUDE_DIR}', the library at '${${name}_LIBRARY}'")
  endif()
  target_include_directories(caffe_dependencies SYSTEM INTERFACE ${${name}_INCLUDE_DIR})
  target_link_libraries(caffe_dependencies INTERFACE ${${name}_LIBRARY})
endfunction()

find_package(Threads REQUIRED)
# Boost.System is headers only since 1.69, and 1.89 no longer has the empty library: not asked for.
find_package(Boost 1.74 REQUIRED COMPONENTS thread filesystem)
target_link_libraries(caffe_dependencies INTERFACE Threads::Threads Boost::thread Boost::filesystem)

# conv/ runs grouped convolution on all cores with it; without OpenMP on one.
find_package(OpenMP COMPONENTS CXX)
if(OpenMP_CXX_FOUND)
  target_link_libraries(caffe_dependencies INTERFACE OpenMP::OpenMP_CXX)
endif()

# glog 0.7 refuses to be included without the definition that its CMake target carries.
find_package(gflags REQUIRED)
find_package(glog CONFIG REQUIRED)
target_link_libraries(caffe_dependencies INTERFACE glog::glog gflags)

# protobuf 22 and newer need Abseil, which only their CMake package names.
find_package(protobuf CONFIG QUIET)
if(NOT protobuf_FOUND)
  find_package(Protobuf REQUIRED)
endif()
target_link_libraries(caffe_dependencies INTERFACE protobuf::libprotobuf)
# The compiler of the library that is linked: one of another version, found first, makes code that does not compile.
if(TARGET protobuf::protoc)
  set(PROTOC protobuf::protoc)
else()
  find_program(PROTOC protoc REQUIRED)
endif()

# OpenBLAS's OpenMP flavour where there is one (Debian: libopenblas-openmp-dev): its pthread flavour keeps threads of
# its own, which compete with those of conv/ for the same cores.
find_library(BLAS_LIBRARY NAMES openblas PATH_SUFFIXES openblas-openmp)
require_library(BLAS cblas.h openblas)
require_library(LMDB lmdb.h lmdb)
target_compile_definitions(caffe_dependencies INTERFACE USE_LMDB)

if(WITH_HDF5)
  find_package(HDF5 REQUIRED COMPONENTS C HL)
  target_include_directories(caffe_dependencies SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
  target_link_libraries(caffe_dependencies INTERFACE ${HDF5_LIBRARIES} ${HDF5_HL_LIBRARIES})
  target_compile_definitions(caffe_dependencies INTERFACE USE_HDF5)
endif()

if(WITH_LEVELDB)
  require_library(LEVELDB leveldb/db.h leveldb)
  target_compile_definitions(caffe_dependencies INTERFACE USE_LEVELDB)
endif()

if(WITH_OPENCV)
  find_package(OpenCV REQUIRED COMPONENTS core imgproc imgcodecs highgui)
  target_include_directories(caffe_dependencies SYSTEM INTERFACE ${OpenCV_INCLUDE_DIRS})
  target_link_libraries(caffe_dependencies INTERFACE ${OpenCV_LIBS})
  target_compile_definitions(caffe_dependencies INTERFACE USE_OPENCV)
endif()

if(WITH_PYTHON)
  find_package(Python3 3.10 REQUIRED COMPONENTS Interpreter Development.Module NumPy)
  find_library(BOOST_PYTHON_LIBRARY boost_python${Python3_VERSION_MAJOR}${Python3_VERSION_MINOR} REQUIRED)
endif()

if(NOT WITH_CUDA)
  target_compile_definitions(caffe_dependencies INTERFACE CPU_ONLY)
  return()
endif()

# cuBLAS, cuRAND, cuDNN and NCCL come with the toolkit, from a distribution, or from PyPI's nvidia-* wheels, which have
# versioned library names only. CUDA_ROOTS: folders with include/ and lib/ to look in before the system's.
set(CUDA_ROOTS "" CACHE STRING "Folders (a list) with the CUDA libraries' include/ and lib/")
list(APPEND CMAKE_PREFIX_PATH ${CUDA_ROOTS})
find_package(CUDAToolkit 12.0 REQUIRED)
list(APPEND CMAKE_LIBRARY_PATH ${CUDAToolkit_LIBRARY_DIR})
list(APPEND CMAKE_INCLUDE_PATH ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(caffe_dependencies INTERFACE CUDA::cudart)
require_library(CUBLAS cublas_v2.h cublas libcublas.so.13 libcublas.so.12)
require_library(CURAND curand.h curand libcurand.so.10)
if(WITH_CUDNN)
  require_library(CUDNN cudnn.h cudnn libcudnn.so.9 libcudnn.so.8)
  target_compile_definitions(caffe_dependencies INTERFACE USE_CUDNN)
endif()
if(WITH_NCCL)
  require_library(NCCL nccl.h nccl libnccl.so.2)
  target_compile_definitions(caffe_dependencies INTERFACE USE_NCCL)
endif()
