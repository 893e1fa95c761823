"""A patched Caffe 1.0 from a source tree: fetch, patch a copy, build, install into a prefix, keep it in the cache.

source      ways to have the tree (a folder, git, Debian's source package), each checked
series      caffe_patches/*/series: applying patches to a copy
toolchain   compiler, tools and libraries: what is missing and the apt line for it
build       configure, compile, install; the cache
prefix      where the built Caffe lies, and how a program uses it
check       a smoke test of a prefix
"""
