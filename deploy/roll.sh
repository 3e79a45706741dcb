#!/bin/sh
# Replace the gateways one after another, without losing a call: after a change of .env, for a new image, for another
# GATEWAY_REPLICAS.  A new one is up before an old one is told to stop; one that does not come up ends this script, and
# the old ones go on serving.
set -eu
cd "$(dirname "$0")/.."

gateways() { docker compose up -d --no-deps --no-recreate --no-build --wait --scale gateway="$1" gateway; }

docker compose build --quiet gateway
docker compose run --rm -T --no-deps gateway check || { echo "roll.sh: the check did not end well; nothing was changed" >&2; exit 1; }
wanted=$(docker compose config --environment | sed -n 's/^GATEWAY_REPLICAS=//p')
old=$(docker compose ps --quiet gateway)
running=$(echo "$old" | wc -l)
for container in $old; do
  gateways $((running + 1))
  sleep 3 # the proxy asks every 2 s whether the new one is ready
  docker stop "$container" >/dev/null # waits for its calls
  docker rm "$container" >/dev/null
done
gateways "${wanted:-1}"
docker compose ps gateway
