-- renew_and_reap.lua: who is still under way?  Renews leases, takes back those that ran out, and tidies up.
--
-- A lease is the record that its call began: when nobody renews it, its worker is gone, and the call ends here as
-- `lost`, charged as reserved.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins
-- ARGV     2... calls whose leases are renewed
-- Returns  {tokens_day, images_day, {{model, method} of each lost call...}}: first what is used of today's budgets;
--          after 100 lost calls there may be more

-- Nobody came for so long: the store was away, or its clock jumped.  That ages no lease.
local unseen = now - (tonumber(redis.call("HGET", limits, "seen")) or 0)
local still = unseen < 0 or unseen > lease_ms * 2 / 3
table.remove(ARGV, 1)
for _, call in ipairs(still and redis.call("ZRANGE", leases, 0, -1) or ARGV) do
  redis.call("ZADD", leases, "XX", now + lease_ms, call)
end
if redis.call("ZCARD", leases) > 0 then redis.call("HSET", limits, "seen", now) end

local lost = {}
for _, id in ipairs(redis.call("ZRANGEBYSCORE", leases, "-inf", now, "LIMIT", 0, 100)) do
  local begun, requests_took, requests_share, tokens_took, tokens_share, call =
    cmsgpack.unpack(redis.call("HGET", limits, id))
  local _, reserved, images, _, model, method, request = unpack(call)
  redis.call("ZADD", settled, now, id)
  redis.call("XADD", usage, "*", "call", id, "at", begun, "request", request, "model", model, "method", method,
    "outcome", "lost", "usage", "estimated", "tokens", reserved, "in", 0, "out", 0, "images", images)
  redis.call("ZREM", leases, id)
  redis.call("HDEL", limits, id)
  release(requests, begun, requests_took, requests_share)
  release(tokens, begun, tokens_took, tokens_share)
  lost[#lost + 1] = { model, method }
end
if #lost > 0 then keep() end

-- Settled calls are kept for an hour, records for 90 days, and so is all of a client that is no longer visited.
redis.call("ZREMRANGEBYSCORE", settled, "-inf", now - 3600000)
redis.call("XTRIM", usage, "MINID", "~", string.format("%.0f", now - 7776000000))
for _, key in ipairs(KEYS) do
  if redis.call("PTTL", key) < 7689600000 then redis.call("PEXPIRE", key, 7776000000) end
end
return { tokens_day, images_day, lost }
