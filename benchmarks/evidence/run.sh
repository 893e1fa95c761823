#!/bin/sh
# The evidence run: NiN's rows on all of Fashion-MNIST, the same schedule for all. Goes on from where it stopped.
#
#   benchmarks/evidence/run.sh FOLDER --source DIR [more options of rootgen reproduce]
#
# DIR holds Fashion-MNIST's four files (what the package carries is a tenth of it). See README.md beside this file.
set -eu
if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
  echo "usage: $0 FOLDER --source DIR [--minutes M] [--rows ...] [--seeds ...]" >&2
  exit 2
fi
out=$1
shift
exec "${ROOTGEN:-rootgen}" reproduce nin --out "$out" --data fashion-mnist \
  --rows 'Orig.,root-4,root-8,root-16,column-8,tree-8' --seeds 1..3 --epochs 3 --batch-size 128 "$@"
