#!/bin/bash
# The search, in Ray's cluster at the address $1: its process id for a stop, its exit status for the job's script.
readonly folder=/scratch/me/searches/submissions/SUBMISSION
exec >>"$folder/slurm.log" 2>&1
export RAY_ADDRESS=$1
[[ ! -e $folder/stopped ]] || exit 130
bash -c 'echo "$$" >"$0" && exec "$@"' "$folder/search.pid" python -m cluster.driver
status=$?
rm -f -- "$folder/search.pid"
echo "$status" >"$folder/.search_status" && mv -- "$folder/.search_status" "$folder/search_status"
exit "$status"
