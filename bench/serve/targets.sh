#!/usr/bin/env bash
# Serving's targets on one GPU, against a server with random weights of Llama-3-8B's shapes: what shared
# prompts save, what a long prompt does to those who stream, a cached prompt's first token, and the
# server against the engine alone.
# usage: bench/serve/targets.sh GALE TOKENIZER_FOLDER [DEVICE [MODEL_FOLDER]]
#   TOKENIZER_FOLDER: any with a tokenizer.json (models/gale-tales-10m will do: prompts are token ids)
#   MODEL_FOLDER: served as it is in place of random weights
set -euo pipefail

readonly GALE=$1 TOKENIZER=$2 DEVICE=${3:-cuda} MODEL=${4:-}
readonly PORT=${PORT:-18111} URL=http://127.0.0.1:${PORT:-18111}
readonly PROMPT=${PROMPT:-2048} SHARED=${SHARED:-1843} ANSWER=${ANSWER:-128}
readonly LATE=${LATE:-32768} CONTEXT=${CONTEXT:-1024} CACHED=${CACHED:-8192} USERS=${USERS:-64}
folder=$(mktemp -d)
server=
stop() { [[ -z "$server" ]] || { kill "$server" && wait "$server"; } 2>/dev/null || true; server=; }
trap 'stop; rm -rf "$folder"' EXIT

flags=()
if [[ -n "$MODEL" ]]; then
  readonly FOLDER=$MODEL
else
  readonly FOLDER=$folder
  cp "$TOKENIZER"/tokenizer*.json "$folder"
  cat > "$folder/config.json" <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
 "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
 "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 40960,
 "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "torch_dtype": "bfloat16", "bos_token_id": 128000,
 "eos_token_id": 128001, "tie_word_embeddings": false}
JSON
  flags=(--load-format dummy)
fi

start() {  # start FLAG...
  stop
  "$GALE" serve "$FOLDER" "${flags[@]}" --device "$DEVICE" --port "$PORT" --no-access-log \
    --max-num-batched-tokens "${BATCHED:-2048}" "$@" 2> "$folder/log" &
  server=$!
  until (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && grep -q '^serving' "$folder/log"; do
    kill -0 "$server" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.2
  done
}
bench() { "$GALE" bench serve --url "$URL" "$@"; }

echo "== $PROMPT in, of which $SHARED shared, $ANSWER out, $USERS users: tokens/s at least 2.7 times as many"
start --max-num-seqs "$USERS"
bench --concurrency "$USERS" --requests $((4 * USERS)) --prompt-tokens "$PROMPT" --output-tokens "$ANSWER"
bench --concurrency "$USERS" --requests $((4 * USERS)) --prompt-tokens "$PROMPT" --output-tokens "$ANSWER" \
  --shared-prompt-tokens "$SHARED" --seed 100

echo "== a prompt of $LATE among $USERS streams: p99 gap at most 2.5 times p50, first token 1.6 times alone"
start --max-num-seqs $((USERS + 1))
for seed in 1 11 21; do  # each with prompts that nobody has seen
  bench --concurrency "$USERS" --prompt-tokens "$CONTEXT" --output-tokens 2000 \
    --late-prompt-tokens "$LATE" --seed "$seed" | tail -2
done

echo "== a cached prompt of $CACHED: first token at most 1.3 times between tokens, and 2 ms"
bench --concurrency 1 --requests 20 --prompt-tokens "$CACHED" --shared-prompt-tokens "$CACHED" \
  --output-tokens 64 --seed 200

echo "== the server at ${STREAMS:=1024} streams (offline: gale bench throughput, the same lengths)"
start --max-num-seqs "$STREAMS"
bench --concurrency "$STREAMS" --requests "$STREAMS" --prompt-tokens 128 --output-tokens "${LONG:-256}"
