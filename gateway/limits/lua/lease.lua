-- lease.lua: what is known of a call in flight, and how does it end?  Behind state.lua, settle.lua and
-- renew_and_reap.lua begin with this.
--
-- A store may refuse any step of a settlement, as an ACL does; the next attempt goes on from there.  `settled` holds
-- when the call was recorded, or 0 where that was refused and nothing has happened.  What is recorded is never recorded
-- again: only its place may be left to be given back.

local function ended(id) -- whether the call is recorded; if not, it is marked as recorded from now on
  if redis.call("ZADD", settled, "NX", now, id) == 1 then return false end
  if tonumber(redis.call("ZSCORE", settled, id)) > 0 then return true end
  redis.call("ZADD", settled, now, id)
  return false
end

local function forget(id) -- give its place back
  redis.call("ZREM", leases, id)
  redis.call("HDEL", limits, id)
end

-- {begun, requests_took, requests_share, tokens_took, tokens_share, call, format, days that its budget's is ahead,
--  requests_since, tokens_since}; format 1 may end with the call
local function lease_of(id)
  local lease = redis.call("HGET", limits, id)
  local known, it = pcall(function()
    local it = { cmsgpack.unpack(lease) }
    local call = it[6]
    assert(sum(it, 1, 5) + sum(call, 2, 3) >= 0 and call[5] .. call[6] .. call[7])
    return it
  end)
  if known then return it end
  if lease then unreadable(lease) end
end

local function record(id, begun, request, model, method, outcome, source, spent, tokens_in, tokens_out, images)
  return redis.pcall("XADD", usage, "*", "call", id, "at", begun, "request", request, "model", model, "method", method,
    "outcome", outcome, "usage", source, "tokens", spent, "in", tokens_in, "out", tokens_out, "images", images)
end

local function failed(reply) return type(reply) == "table" end

local function release(bucket, lease, at) -- a call is no longer in flight; returns what it took and has not drained yet
  local took, share, since = lease[2 * at], lease[2 * at + 1], lease[8 + at]
  local own = took * bucket[SHARE] / share
  if since and since ~= bucket[SINCE] or not since and lease[1] < bucket[SINCE] then own = 0 end
  bucket[HELD] = math.max(0, bucket[HELD] - own)
  return own
end

