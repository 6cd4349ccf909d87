#!/usr/bin/env bash
# The whole way on one log: check, split, search, export, verify, recommend.
# Usage: examples/demo.sh [LOG [--session-key NAME] [--item-key NAME] [--time-key NAME] [--time-unit UNIT]]
# Without a log it generates a synthetic one. Everything is written to demo-output (or $DEMO_OUT).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${DEMO_OUT:-demo-output}
log=${1:-}
columns=("${@:2}")

step() {
    printf '\n$ %s\n' "$*"
    "$@"
}

if [ -e "$out" ]; then
    echo "error: $out exists already; hint: move it away, or set DEMO_OUT to another folder" >&2
    exit 2
fi
mkdir -p "$out"
if [ -z "$log" ]; then
    echo "No log given (make demo DATA=clicks.csv), so a synthetic shop log is generated: it shows the way, not a result."
    log=$out/clicks.csv
    step gru4rec data sample "$log"
fi
step gru4rec data check "$log" "${columns[@]}"
step gru4rec data split "$log" --out "$out/data" --share 0.15 "${columns[@]}"
cp examples/search.toml "$out/search.toml"
step gru4rec tune run "$out/search.toml" --out "$out/run"
step gru4rec export "$out/run/best"
step gru4rec verify "$out/run/best"
step gru4rec recommend "$out/run/best" "$out/data/test.parquet" --k 3 --out "$out/recommendations.csv"
printf '\nRecommendations for the first three sessions:\n'
head -n 10 "$out/recommendations.csv"
printf '\nWritten:\n'
for path in data search.toml run/trials.parquet run/epochs.ndjson run/report.html run/best \
    run/best/onnx recommendations.csv; do
    if [ -e "$out/$path" ]; then echo "  $out/$path"; fi
done
printf '\nLook at %s; answer requests with: gru4rec serve %s\n' "$out/run/report.html" "$out/run/best"
printf 'With numpy, pandas and onnxruntime alone: python examples/recommend_onnx.py %s SESSIONS.csv OUT.csv\n' "$out/run/best"
