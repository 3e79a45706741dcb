#!/bin/sh
# Make what `docker compose up` needs and git must not have: .env, deploy/config/ and deploy/secrets/. Changes nothing that
# is already there. `sh deploy/init.sh sandbox` also sets up the stand-in upstream, which costs nothing and needs no key.
set -eu
cd "$(dirname "$0")/.."
umask 077

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
fill() { sed -i "s|^$1=\$|$1=$2|" .env; }

owner="$(id -u):$(id -g)"
[ "$(id -u)" -ne 0 ] || owner=10001:10001
mkdir -p deploy/config deploy/secrets
[ -e .env ] || cp .env.example .env
fill STORE_PASSWORD "$(random)"
fill GRAFANA_PASSWORD "$(random)"
fill RUN_AS "$owner"
if [ ! -s deploy/config/clients.toml ]; then
  cp deploy/clients.example.toml deploy/config/clients.toml
fi
if [ "${1:-}" = sandbox ] && [ ! -s deploy/secrets/upstream.key ]; then
  echo sk-sandbox > deploy/secrets/upstream.key
  printf '\nCOMPOSE_PROFILES=sandbox\nGATEWAY_UPSTREAM_URL=http://sandbox:8090\n' >> .env
fi
[ "$(id -u)" -ne 0 ] || chown -R "$(sed -n 's/^RUN_AS=//p' .env)" deploy/config deploy/secrets
[ -s deploy/secrets/upstream.key ] || echo "Put the upstream's key, one line, into deploy/secrets/upstream.key"
echo "Next: docker compose up -d --wait"
