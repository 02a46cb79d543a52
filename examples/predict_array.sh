#!/bin/bash
# sbatch --array=1-16 examples/predict_array.sh CHECKPOINT PICTURES OUT [OPTIONS of hybridvit predict ...]
#
# Each task computes its share of the pieces. Tasks know nothing of each other: any of them may be killed, queued again, or run
# twice, and the same command finishes what is missing. OUT must lie on a disk that all nodes share.
#SBATCH --job-name=hybridvit-predict
#SBATCH --gpus=1
#SBATCH --cpus-per-task=10
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail
checkpoint=$1 pictures=$2 out=$3
shift 3

python -m hybridvit predict "$checkpoint" "$pictures" --out "$out" \
  --piece "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" "$@"
