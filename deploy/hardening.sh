#!/bin/sh
# Are the containers that run here as locked up as they should be?  Twelve checks, by what Docker says of them and by what
# can be tried inside.
set -eu
cd "$(dirname "$0")/.."
containers=$(docker compose ps --quiet)
failed=0

check() { # check WHAT COMMAND...: the command prints what is wrong
  what=$1
  shift
  wrong=$("$@" 2>&1) || wrong="$wrong (the check itself failed)"
  if [ -z "$wrong" ]; then echo "ok    $what"; else failed=1; echo "FAIL  $what"; echo "$wrong" | sed 's/^/      /'; fi
}
inspect() { docker inspect --format "{{.Name}} $1" $containers; }
unless() { inspect "$1" | grep -vE "$2" || true; }
inside() { docker compose exec -T "$@"; }

no_root() { for each in $containers; do docker top "$each" -eo pid,uid,comm | awk '$2 == 0'; done; }
attached() { # attached SERVICE: its networks, and whether each is internal
  for network in $(docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' $(docker compose ps --quiet "$1")); do
    docker network inspect --format '{{.Name}} {{.Internal}}' "$network"
  done | sort -u
}
stores_apart() {
  for store in state cache; do
    attached $store | grep -vE '_stores true$' || true
    docker compose ps --format '{{.Ports}}' $store | grep -- '->' || true
  done
  members=$(docker compose ps --quiet gateway state cache)
  attached state | while read -r network _; do
    docker network inspect --format '{{range $id, $each := .Containers}}{{$id}} {{$each.Name}}{{"\n"}}{{end}}' "$network"
  done | grep -vF "$members" | grep . || true
}
one_way_out() {
  for service in gateway state cache prometheus; do attached $service | grep -v ' true$' || true; done
  inside gateway python -c "
import socket
relay = socket.create_connection(('egress', 3128), 5)
relay.sendall(b'CONNECT example.org:443 HTTP/1.1\r\n\r\n')
if b' 403 ' not in (answer := relay.recv(100)): print('the relay leads elsewhere:', answer)"
}
seccomp() {
  inspect '{{.HostConfig.SecurityOpt}}' | grep seccomp || true
  inside gateway grep '^Seccomp:' /proc/1/status | grep -v '2$' || true
}
tried() {
  inside gateway python -c "
import os, socket, subprocess
def refused(what, do):
    try: do()
    except OSError: return
    print(what)
refused('the root file system takes writes', lambda: open('/app/x', 'w'))
refused('the mounted secrets take writes', lambda: open('/secrets/x', 'w'))
refused('it can become root', lambda: os.setuid(0))
refused('it can send raw packets', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
open('/tmp/x', 'w').write('#!/bin/sh\n'); os.chmod('/tmp/x', 0o755)
refused('it can run what it wrote', lambda: subprocess.run(['/tmp/x']))"
}

check ' 1 nothing runs as root' no_root
check ' 2 every root file system is read-only' unless '{{.HostConfig.ReadonlyRootfs}}' ' true$'
check ' 3 every capability is dropped' unless '{{.HostConfig.CapDrop}}' '\[ALL\]$'
check ' 4 nobody gains privileges' unless '{{.HostConfig.SecurityOpt}} {{.HostConfig.Privileged}}' 'no-new-privileges.* false$'
check ' 5 nothing in a temporary folder can be run' unless '{{range .HostConfig.Tmpfs}}{{.}} {{end}}' '^\S+ (\S*noexec\S*,nosuid\S* )+$'
check ' 6 processes, memory and processor time are limited' unless '{{.HostConfig.PidsLimit}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}' ' [1-9][0-9]* [1-9][0-9]* [1-9][0-9]*$'
check ' 7 every part tells its health' unless '{{if .Config.Healthcheck}}{{.Config.Healthcheck.Test}}{{end}}' 'CMD'
check ' 8 only gateways can reach the stores' stores_apart
check ' 9 only the upstream can be reached from a gateway' one_way_out
check '10 an init reaps what is left over' unless '{{.HostConfig.Init}}' ' true$'
check '11 the default seccomp profile holds' seccomp
check '12 tried inside: no writing, no root, no raw packets, no running of files' tried
exit $failed
