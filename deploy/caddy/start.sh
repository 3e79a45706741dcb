#!/bin/sh
# Start Caddy.  Up to 2.6, which Debian 12 has, it loses calls whose question it has not read to the end when it is answered
# or sent to another gateway (caddyserver/caddy#5431): there it reads short ones first, which a mention of the body does.
set -eu
case $(caddy version) in
  2.[0-6].* | v2.[0-6].*)
    export READ_FIRST='@short header_regexp Content-Length ^[0-9]{1,6}$
      vars @short question {http.request.body}'
    ;;
esac
exec caddy run --config /etc/caddy/Caddyfile
