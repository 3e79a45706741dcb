#!/bin/sh
# Start the store `state` or `cache` of docker-compose.yml in the folder of its data: its settings beside this file, and
# what depends on .env.
# They go in on standard input, since a command line can be read by every user of the host.
set -eu
# Room is left beside the data: for buffers, and for the copy that rewriting the append-only file makes.
data=$((MEMORY_MB * 6 / 10))
# What the gateway sends, its scripts included, and on its own keys; everything else is refused.
exec valkey-server "$(dirname "$0")/$1.conf" - <<CONF
maxmemory ${data}mb
user default reset on >$STORE_PASSWORD ~gw:* -@all \
+ping +info +eval +evalsha +time +scan +get +getrange +set +strlen +unlink +pttl +pexpire \
+hget +hmget +hset +hdel +xadd +xrange +xtrim +zadd +zcard +zrange +zrangebyscore +zrem +zremrangebyscore +zscore
CONF
