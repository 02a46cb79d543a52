#!/bin/bash
# sbatch examples/slurm.sh RECIPE DATA OUT [--set KEY=VALUE ...]
#
# One process per GPU; two minutes before its time is up the job is told to stop, saves, and puts itself in the queue
# again until the run is finished. OUT must lie on a disk that all nodes share.
#SBATCH --job-name=hybridvit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=10
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
recipe=$1 data=$2 out=$3
shift 3

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT

srun --kill-on-bad-exit=1 python -m hybridvit train "$recipe" --data "$data" --out "$out" --resume "$@"
[ -e "$out/last.safetensors" ] || scontrol requeue "$SLURM_JOB_ID"
