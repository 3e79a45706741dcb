#!/bin/sh
# Does the stack that runs here serve, count and show?  Makes two small calls with the key in deploy/demo.key, or with the
# one given:  sh deploy/smoke.sh [KEY]
set -eu
cd "$(dirname "$0")/.."
key=${1:-$(cat deploy/demo.key)}
address=$(docker compose port proxy 8080)
site=$(docker compose config --environment | sed -n 's/^SITE=//p')
case $site in https://*) url=$site to="--connect-to ::${address}" ;; *) url=http://$address to= ;; esac
# The certificate of this name is the proxy's own, and nobody else vouches for it.
[ "$site" != https://localhost ] || to="$to --cacert deploy/certificates/caddy/pki/authorities/local/root.crt"
model=${MODEL:-gemini-2.5-flash}
body='{"contents":[{"role":"user","parts":[{"text":"Say hello in one word."}]}]}'
gateways=$(docker compose ps --quiet gateway | wc -l)
failed=0

check() { # check WHAT PATTERN COMMAND...: what the command prints must match
  what=$1 pattern=$2
  shift 2
  if output=$("$@" 2>&1) && echo "$output" | grep -Eq -- "$pattern"; then
    echo "ok    $what"
  else
    echo "FAIL  $what"
    echo "$output" | head -n 20 | sed 's/^/      /'
    failed=1
  fi
}
call() { curl --silent --show-error --include --max-time 120 $to "$@"; }
post() { call "$url/v1beta/models/$model:$1" -H "x-goog-api-key: $2" -H 'content-type: application/json' -d "$body"; }
ask() { docker compose exec -T prometheus promtool query instant http://127.0.0.1:9090 "$1"; }
watched() { # watched QUERY: a new gateway is found within 15 s, and read within 15 more
  tries=12
  until ask "$1" | grep -q '=> [1-9]' || [ $((tries -= 1)) -eq 0 ]; do sleep 5; done
  ask "$1"
}
every_part_is_healthy() { ! docker compose ps --all --format '{{.Service}} {{.Status}}' | grep -v '(healthy)'; }

check 'every part is healthy' '' every_part_is_healthy
check 'the proxy reaches a gateway that is ready' '"degraded":\[\]' call "$url/readyz"
check 'a stranger is refused' '^HTTP/[0-9.]+ 401' post generateContent wrong
check 'a call is answered' '"usageMetadata"' post generateContent "$key"
check 'a stream is answered' '^data: ' post 'streamGenerateContent?alt=sse' "$key"
check 'callers cannot read the metrics' '^HTTP/[0-9.]+ 404' call "$url/metrics"
check 'the calls are in the usage report' ' [1-9]' docker compose exec -T gateway tokenhot-gateway usage --since 1h
check 'Prometheus sees every gateway' '=> 1 ' watched "count((timestamp(up{job=\"gateway\"}) > time() - 40) and up{job=\"gateway\"} == 1) == bool $gateways"
check 'Prometheus has the calls' '=> [1-9]' watched 'sum(gateway_requests_total{outcome="ok"})'
check 'Grafana answers' '"database"' curl --silent --show-error --max-time 10 "http://$(docker compose port grafana 3000)/api/health"
exit $failed
