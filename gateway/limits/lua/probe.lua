-- probe.lua: every command of the scripts here, each once and on keys of their kinds.
--
-- KEYS  as in state.lua, but of no client, and one more as a sweep has them

local limits, leases, settled, usage, sweep = unpack(KEYS)
try("TIME")
try("HSET", limits, "state", 1)
try("HGET", limits, "state")
try("HDEL", limits, "state")
try("ZADD", leases, 1, "call")
try("ZCARD", leases)
try("ZSCORE", leases, "call")
try("ZRANGE", leases, 0, -1)
try("ZRANGEBYSCORE", leases, "-inf", 1)
try("ZREM", leases, "call")
try("ZADD", settled, 1, "call")
try("ZREMRANGEBYSCORE", settled, "-inf", 1)
try("XADD", usage, "MAXLEN", 1, "*", "call", 1)
try("XTRIM", usage, "MINID", "~", 1)
try("PTTL", usage)
try("SET", sweep, 1)
try("GET", sweep)
return verdict()
