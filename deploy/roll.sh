#!/bin/sh
# Replace the gateways one after another, without losing a call: after a change of .env, for a new image, for another
# GATEWAY_REPLICAS.  A new one is healthy before an old one is stopped; one that does not come up is removed again and ends
# this script, and the old ones go on serving.  It can be repeated, whatever ended it.
set -eu
cd "$(dirname "$0")/.."

gateways() { docker compose ps --all --quiet gateway; }
scale() { docker compose up -d --no-deps --no-recreate --no-build --scale gateway="$1" gateway; }
is() { docker inspect --format "{{.$1}}" "$new"; }
add() { # one gateway more, and only it is waited for: an old one may be sick
  before=$(gateways)
  scale $(($(echo "$before" | grep -c .) + 1))
  new=$(gateways | grep -vxF "${before:-none}")
  tries=60
  until [ "$(is State.Health.Status)" = healthy ]; do
    if [ $((tries -= 1)) -eq 0 ] || [ "$(is RestartCount)" != 0 ]; then
      docker logs --tail 5 "$new" >&2
      docker rm --force "$new" >/dev/null
      echo 'roll.sh: the new gateway did not get healthy and is gone; its last words stand above' >&2
      exit 1
    fi
    sleep 1
  done
}

docker compose build --quiet gateway
docker compose up -d --no-deps --wait egress # it leads to the upstream of .env, which the check calls through it
docker compose run --rm -T --no-deps gateway check || { echo 'roll.sh: the check did not end well; no gateway was changed' >&2; exit 1; }
wanted=$(docker compose config --environment | sed -n 's/^GATEWAY_REPLICAS=//p')
docker compose rm --force gateway # those that have ended
for old in $(gateways); do
  add
  sleep 3 # the proxy checks every 2 s whether the new one is ready
  docker stop "$old" >/dev/null # waits for its calls
  docker rm "$old" >/dev/null
done
while [ "$(gateways | grep -c .)" -lt "${wanted:-1}" ]; do add; done
scale "${wanted:-1}"
docker compose ps gateway
