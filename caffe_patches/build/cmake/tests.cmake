# The target caffe_tests: Caffe's gtest programs as one. Run it with the tree as the working folder.
set(TESTS "" CACHE STRING "Only these test files, by name without test_ and extension: convolution_layer;im2col_layer")

set(cpp_tests)
set(cu_tests)
foreach(extension cpp cu)
  file(GLOB found CONFIGURE_DEPENDS ${CAFFE_SOURCE}/src/caffe/test/test_*.${extension})
  foreach(test IN LISTS found)
    string(REGEX REPLACE ".*/test_(.*)\\.${extension}$" "\\1" name ${test})
    if(NOT TESTS OR name IN_LIST TESTS OR name STREQUAL caffe_main)
      list(APPEND ${extension}_tests ${test})
    endif()
  endforeach()
endforeach()

unity_batches(test_batches tests cpp 8 "" ${cpp_tests})  # they are heavier than layers
if(NOT WITH_CUDA)
  set(cu_tests)
endif()
add_executable(caffe_tests ${test_batches} ${cu_tests} ${CAFFE_SOURCE}/src/gtest/gtest-all.cpp)
target_compile_definitions(caffe_tests PRIVATE GTEST_USE_OWN_TR1_TUPLE=1)
target_link_libraries(caffe_tests PRIVATE caffe)
