#!/bin/sh
# Start the gateway for a first look: a client `demo`, the embedded store, and the sandbox where no upstream key is set.
set -eu
export GATEWAY_CLIENTS_FILE="${GATEWAY_CLIENTS_FILE:-.gateway/clients.toml}"
port="${GATEWAY_PORT:-8080}"
mkdir -p -m 700 .gateway  # others may not write there
new_key() { (umask 077 && tokenhot-gateway clients "$@" > .gateway/demo.key.new) && mv .gateway/demo.key.new .gateway/demo.key; }
if ! grep -qs '^\[clients\.demo\]' "$GATEWAY_CLIENTS_FILE"; then
  new_key add demo --requests-per-minute 60 --concurrent 10
elif [ ! -s .gateway/demo.key ]; then
  new_key rotate demo
fi
sandbox=
if [ -z "${GATEWAY_UPSTREAM_KEY:-}${GATEWAY_UPSTREAM_KEY_FILE:-}" ]; then
  sandbox=--sandbox
  echo '*** No GATEWAY_UPSTREAM_KEY is set: answers come from the SANDBOX, a stand-in that costs nothing. ***'
fi
cat <<TEXT
Your key: $(cat .gateway/demo.key)
Draw a picture into hello.png:

curl -s http://127.0.0.1:$port/v1beta/models/gemini-2.5-flash-image:generateContent \\
  -H 'x-goog-api-key: $(cat .gateway/demo.key)' -H 'content-type: application/json' \\
  -d '{"contents":[{"parts":[{"text":"A lighthouse at dusk"}]}]}' \\
  | python3 -c 'import base64, json, sys; print(*(p.get("text") or open("hello.png", "wb").write(base64.b64decode(p["inlineData"]["data"])) for p in json.load(sys.stdin)["candidates"][0]["content"]["parts"]), sep="\\n")'

TEXT
exec tokenhot-gateway serve $sandbox
