#!/bin/sh
# Make what `docker compose up` needs and git must not have: .env, the folders deploy/config, secrets, certificates and state,
# and a first client, `demo`, whose key goes into deploy/demo.key.  What is already there stays as it is.
#   sh deploy/init.sh            then put the upstream's key into deploy/secrets/upstream.key
#   sh deploy/init.sh sandbox    in front of a stand-in upstream, which costs nothing and needs no key
set -eu
cd "$(dirname "$0")/.."
umask 077

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
fill() { # fill NAME VALUE: only where it is empty; the copy first, so that the file keeps its mode and its owner
  if grep -q "^$1=\$" .env; then
    cp -p .env .env.new && sed "s|^$1=\$|$1=$2|" .env > .env.new && mv .env.new .env
  fi
}

owner="$(id -u):$(id -g)"
[ "$(id -u)" -ne 0 ] || owner=10001:10001
[ -e .env ] || cp .env.example .env
fill STORE_PASSWORD "$(random)"
fill GRAFANA_PASSWORD "$(random)"
fill RUN_AS "$owner"

folders='deploy/config deploy/secrets deploy/certificates deploy/state'
mkdir -p $folders
[ -s deploy/config/clients.toml ] || cp deploy/clients.example.toml deploy/config/clients.toml
if [ "${1:-}" = sandbox ] && ! grep -q '^COMPOSE_PROFILES=sandbox' .env; then
  cat >> .env <<'ENV'

# The stand-in upstream. For the real one delete these lines: docs/operations.md, First start. With alerts: sandbox,alerting
COMPOSE_PROFILES=sandbox
GATEWAY_UPSTREAM_URL=http://sandbox:8090
GATEWAY_UPSTREAM_PROXY=
ENV
  [ -s deploy/secrets/upstream.key ] || echo sk-sandbox > deploy/secrets/upstream.key
fi
[ "$(id -u)" -ne 0 ] || chown -R "$(sed -n 's/^RUN_AS=//p' .env)" $folders

# Parts that run as users of their own read these.  Who may read a file is its owner's choice, so it is only said.
read='deploy/egress deploy/prometheus deploy/alertmanager deploy/grafana'
[ "$(id -u)" -ne 0 ] || read="$read deploy/caddy deploy/valkey"
closed=$(find $read \( ! -perm -004 -o -type d ! -perm -005 \) -print)
if [ -n "$closed" ]; then
  echo 'Parts of the stack cannot read these; where they hold no secret, `chmod go+rX` them:' >&2
  echo "$closed" | sed 's/^/  /' >&2
fi

docker compose build --quiet gateway
if ! grep -q '^\[clients\.' deploy/config/clients.toml; then
  docker compose run --rm -T clients add demo > deploy/demo.key
  echo "The client \`demo\` has its key in deploy/demo.key."
fi
[ -s deploy/secrets/upstream.key ] || echo "Now put the upstream's key, one line, into deploy/secrets/upstream.key."
echo "Next: docker compose up -d --wait"
