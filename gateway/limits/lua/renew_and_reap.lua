-- renew_and_reap.lua: which calls are still in flight?  Renews leases, reaps expired ones (reap.lua), and tidies up.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins; drain.lua, lease.lua and reap.lua follow
-- ARGV     2... calls whose leases are renewed
-- Returns  {{use of each budget...}, {{model, method} of each lost call...}, format}: after 100 lost calls there may be
--          more; format: 0 something could not be read, 1 ours, 2 a newer one

-- Where no worker came for long, the store was unavailable or its clock jumped.  That ages no lease.
local unseen = now - (tonumber(redis.call("HGET", limits, "seen")) or 0)
local still = unseen < 0 or unseen > lease_ms * 2 / 3
table.remove(ARGV, 1)
for _, call in ipairs(still and redis.call("ZRANGE", leases, 0, -1) or ARGV) do
  redis.call("ZADD", leases, "XX", now + lease_ms, call)
end
if redis.call("ZCARD", leases) > 0 then redis.call("HSET", limits, "seen", now) end

local lost, refused = reap()
if refused then return refused end

-- Ids of settled calls are kept for an hour, open tasks for 30 days, records for 90 days, and so is all state of a client without calls.
redis.call("ZREMRANGEBYSCORE", settled, "-inf", now - 3600000)
redis.call("ZREMRANGEBYSCORE", tasks, "-inf", now - 2592000000) -- nobody asks for them any more
redis.call("XTRIM", usage, "MINID", "~", string.format("%.0f", now - 7776000000))
for _, key in ipairs(KEYS) do
  if redis.call("PTTL", key) < 7689600000 then redis.call("PEXPIRE", key, 7776000000) end
end

local unread = redis.call("HGET", limits, "unread")
if unread and today > (tonumber(unread:match("^%d+")) or 0) + 1 then -- it was of a day that is over
  redis.call("HDEL", limits, "unread")
  unread = false
end
local used = {}
for at = 1, #counters do used[at] = counters[at][USED] end
return { used, lost, unread and 0 or it.format == FORMAT and 1 or 2 }
