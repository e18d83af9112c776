#!/bin/sh
# g++ for machines other than this one. DeepSpeed compiles for the processor that it is built on: its operators would end
# with an illegal instruction on an older one. On x86-64 they are made for AVX2, which every host of a GPU in use has.
if [ "$(uname -m)" = x86_64 ]; then
  for given; do
    shift
    case $given in
      -march=native) given=-march=x86-64-v3 ;;
      -D__AVX512__) given=-D__AVX256__ ;;
    esac
    set -- "$@" "$given"
  done
fi
exec g++ "$@"
