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

-- {begun, what it took of each limit, call, what newer versions add}: see admit.lua
local function lease_of(id)
  local lease = redis.call("HGET", limits, id)
  local known, it = pcall(function()
    local it = { cmsgpack.unpack(lease) }
    local took, call = it[2], it[3]
    for _, part in pairs(took) do assert((type(part) == "table" and part[1] + part[2] + part[3] or part) >= 0) end
    for _, amount in pairs(call[2]) do assert(amount >= 0) end
    assert(it[1] >= 0 and call[4] .. call[5] .. call[6])
    return it
  end)
  if known then return it end
  if lease then unreadable(lease) end
end

local ALWAYS = { requests = true, tokens = true, images = true } -- units that every record has, requests as itself
local function record(id, begun, request, model, method, outcome, source, amounts, tokens_in, tokens_out, notes)
  local others = {}
  for name, text in pairs(notes or {}) do
    others[#others + 1], others[#others + 2] = name, text
  end
  for unit, amount in pairs(amounts) do
    if not ALWAYS[unit] then others[#others + 1], others[#others + 2] = unit, amount end
  end
  return redis.pcall("XADD", usage, "*", "call", id, "at", begun, "request", request, "model", model, "method", method,
    "outcome", outcome, "usage", source, "tokens", amounts.tokens or 0, "in", tokens_in, "out", tokens_out,
    "images", amounts.images or 0, unpack(others))
end

local function failed(reply) return type(reply) == "table" end

local function release(bucket, took) -- a call is no longer in flight; returns what it took and has not drained yet
  if not took then return 0 end
  local own = took[3] == bucket[SINCE] and took[1] * bucket[SHARE] / took[2] or 0
  bucket[HELD] = max(0, bucket[HELD] - own)
  return own
end

