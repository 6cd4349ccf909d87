#!/bin/bash
# One search as one job: Ray on all its nodes, the search on the first. Rendered by gru4rec cluster.
#SBATCH --job-name=gru4rec-hpc:SUBMISSION
#SBATCH --output=slurm.log
#SBATCH --open-mode=append
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=122880M
#SBATCH --gres=gpu:a100:4
#SBATCH --exclusive
#SBATCH --no-requeue
#SBATCH --no-kill
#SBATCH --signal=B:USR1@300
#SBATCH --partition=gpu
#SBATCH --account=project42
#SBATCH --time=1-00:00:00
#SBATCH --mail-type=END,FAIL

readonly folder=/scratch/me/searches/submissions/SUBMISSION nodes=3 grace_s=300
head='' workers='' made=''

fail() {
  echo "gru4rec: $1" >&2
  exit 1
}

# `gru4rec cluster stop`, or the time limit is near: the search exports its best model, and ends.
interrupt() {
  touch "$folder/stopped"
  echo 'gru4rec: asked to end' >&2
  (sleep "$grace_s" && kill "$head") 2>/dev/null &
  if [[ -s $folder/search.pid ]]; then
    kill -INT "$(<"$folder/search.pid")"
  elif [[ -n $head ]]; then
    kill "$head"
  else
    exit 130
  fi
}

finish() {
  local status=$?
  trap '' USR1 TERM
  rm -f -- "$folder/token" "$folder/search.pid"
  echo "$status" >"$folder/.exit_status" && mv -- "$folder/.exit_status" "$folder/exit_status"
  # Of a node that was lost no answer comes, and none is waited for.
  for pid in $head $workers; do
    kill "$pid"
    timeout 20 tail -f /dev/null --pid="$pid"
    kill -KILL "$pid"
  done 2>/dev/null
  # Ray's processes are daemons, which Slurm itself ends only where it tracks a job by cgroups; those of a node are of
  # the session that was recorded there.
  local clean='[[ ! -s $RAY_TMPDIR/session ]] || pkill -KILL --session "$(<"$RAY_TMPDIR/session")"
    rm -rf -- "$RAY_TMPDIR"'
  [[ -z $made ]] || {
    timeout 60 srun --nodes="$nodes" --ntasks-per-node=1 --no-kill bash -c "$clean" || bash -c "$clean"
  } >>"$folder/ray.log" 2>&1
  exit "$status"
}

trap interrupt USR1
trap 'exit 143' TERM
trap finish EXIT

cd /home/me/project || fail 'no folder /home/me/project here'
module purge
module load python/3.11
source .venv/bin/activate

[[ -d $folder/work ]] || fail "no folder $folder/work on $(hostname): storage_path must be shared by all nodes"
cd "$folder/work" || exit 1
command -v ray >/dev/null || fail "ray is not installed on $(hostname): activate an environment in [slurm] setup"

export PYTHONPATH="$folder/work${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
unset RAY_ADDRESS RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token"
export RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# Short, for the paths of Unix sockets; for its owner only, as Ray lets all write to the folders that it makes.
export RAY_TMPDIR="/tmp/gru4rec-$SLURM_JOB_ID"
# Ray holds more open files than the usual soft limit.
ulimit -Sn "$(ulimit -Hn)"

# symmetric-run takes for the head the node that has this address itself; a name may stand for 127.0.1.1 there.
own=" $(hostname -I) "
ip=''
for candidate in $(getent ahostsv4 "$(hostname)" | awk '{print $1}') $own; do
  [[ $candidate != 127.* && $own == *" $candidate "* ]] && ip=$candidate && break
done
[[ -n $ip ]] || fail "$(hostname) has no address but loopback"
readonly address="$ip:$((20000 + SLURM_JOB_ID % 10000))"

srun --nodes="$nodes" --ntasks-per-node=1 mkdir -m 700 -- "$RAY_TMPDIR" ||
  fail "$RAY_TMPDIR cannot be made on all nodes"
made=yes

readonly step=(--ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=0 --no-kill --cpus-per-task=32 --mem=122880M --gres=gpu:a100:4)
readonly session=(setsid --wait bash -c 'echo "$$" >"$RAY_TMPDIR/session" && exec "$@"' session)
readonly run=("${session[@]}" ray symmetric-run --address "$address" --min-nodes "$nodes" --num-cpus=32 --num-gpus=4 --object-store-memory=38654705664)
srun --nodes=1 --ntasks=1 --relative=0 "${step[@]}" \
  "${run[@]}" --include-dashboard=false -- bash "$folder/search.sh" "$address" >>"$folder/ray.log" 2>&1 &
head=$!
srun --nodes="$((nodes - 1))" --ntasks="$((nodes - 1))" --relative=1 "${step[@]}" \
  "${run[@]}" -- true >>"$folder/ray.log" 2>&1 &
workers=$!
while kill -0 "$head" 2>/dev/null; do
  wait -n
  if [[ -n $workers ]] && ! kill -0 "$workers" 2>/dev/null; then
    workers=''
    # They did not join, and will not.
    [[ -e $folder/search.pid || -e $folder/search_status ]] || kill "$head"
  fi
done

[[ ! -s $folder/search_status ]] || exit "$(<"$folder/search_status")"
[[ ! -e $folder/stopped ]] || exit 130
tail -n 40 "$folder/ray.log"
fail "the search did not run to its end: Ray did not start, or was killed; $folder/ray.log says more"
