#!lua
-- state.lua: what has a client taken by now?  All scripts of the limits begin with this text.
--
-- The clock is the server's.  The stored state grows at its end only, so that older and newer versions read each
-- other's; what cannot be read is set aside as `unread`.  `#!lua` lets a full or read-only server refuse the script as
-- a whole.
--
-- KEYS     1 limits (hash: state, seen, unread, and of each call its lease)   2 leases (zset: call, expiry)
--          3 settled (zset: call, time)   4 usage (stream); all times in ms
-- ARGV     1 {requests_per_minute, burst, tokens_per_minute, tokens_per_day, images_per_day, concurrent (0 = no limit),
--             ms of a lease}, in MessagePack, which costs both ends less than text

local limits, leases, settled, usage = unpack(KEYS)
local pace, burst, token_pace, day_tokens, day_images, concurrent, lease_ms = unpack(cmsgpack.unpack(ARGV[1]))
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local today = math.floor(now / 86400000)

local FORMAT = 1
local function sum(list, from, to) -- fails unless all are numbers
  local all = 0
  for at = from, to do all = all + list[at] end
  return all
end

local function unreadable(packed)
  redis.call("HSET", limits, "unread", today .. " " .. packed)
end

local state = redis.call("HGET", limits, "state")
local known, it = pcall(function() -- at, day, tokens_day, images_day, requests, tokens, format, what newer ones add
  local it = { cmsgpack.unpack(state) }
  assert(sum(it, 1, 4) + sum(it[5], 1, 4) + sum(it[6], 1, 4) >= 0)
  return it
end)
if not known then
  if state then unreadable(state) end
  it = { now, today, 0, 0, { 0, 0, 1, 0 }, { 0, 0, 1, 0 }, FORMAT }
  state = cmsgpack.pack(unpack(it))
end
local at, day, tokens_day, images_day, requests, tokens = unpack(it, 1, 6)

local function stored(...) -- the arguments of HSET: the state, and what else belongs into that hash
  it[1], it[2], it[3], it[4], it[7] = now, day, tokens_day, images_day, it[7] or FORMAT
  return limits, "state", cmsgpack.pack(unpack(it)), ...
end

-- drain.lua: how much of each bucket has drained by now?  Runs behind state.lua.
--
-- A limit per minute is a bucket: its level rises by what a call takes and falls at the limit's pace.  It decides as
-- GCRA does; in units, it outlives a changed limit and a jumping clock; without a limit it stands still.  Of its level,
-- `held` is of calls in flight and drains last, from all alike: `share` of what they took is still there, or nothing if
-- `since` was another when they began.  So what a call gives back never drained before, and no token counts twice.
-- A day's budget counts up until midnight UTC.  A clock that goes back begins no day anew: what was counted for the
-- next day goes on counting for it.  Was it further ahead, it was wrong, and no call is to wait until then.

local LEVEL, HELD, SHARE, SINCE = 1, 2, 3, 4 -- of a bucket

if day < today then day, tokens_day, images_day = today, 0, 0 end
if day > today + 1 then day = today end

local function drain(bucket, per_minute)
  local level = math.max(0, bucket[LEVEL] - math.max(0, now - at) * per_minute / 60000)
  if bucket[HELD] > level then bucket[HELD], bucket[SHARE] = level, bucket[SHARE] * level / bucket[HELD] end
  if bucket[SHARE] < 1e-9 then bucket[SHARE], bucket[SINCE] = 1, math.max(now, bucket[SINCE] + 1) end
  bucket[LEVEL] = level
end
drain(requests, pace)
drain(tokens, token_pace)

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

-- reap.lua: which calls have lost their worker?  Runs behind lease.lua, for renew_and_reap.lua.
--
-- A lease is the record that its call began: when nobody renews it, its worker is gone, and the call ends here as
-- `lost`, charged as reserved.  One that cannot be read is a place all the same, of a call of which nothing is known.

local function reap() -- {{model, method} of each lost call...}, or nil and the store's error
  local lost, gone = {}, redis.call("ZRANGEBYSCORE", leases, "-inf", now, "LIMIT", 0, 100)
  if #gone > 0 then -- where the store refuses to give a place back, no call is recorded
    forget("")
    redis.call("HSET", stored())
  end
  for _, id in ipairs(gone) do
    if not ended(id) then
      local lease = lease_of(id) or { now, 0, 1, 0, 1, { id, 0, 0, "", "", "other", "" } }
      local call = lease[6]
      local reply = record(id, lease[1], call[7], call[5], call[6], "lost", "estimated", call[2], 0, 0, call[3])
      if failed(reply) then
        redis.call("ZADD", settled, 0, id)
        return nil, reply
      end
      release(requests, lease, 1)
      release(tokens, lease, 2)
      lost[#lost + 1] = { call[5], call[6] }
    end
    forget(id)
  end
  if #lost > 0 then redis.call("HSET", stored()) end
  return lost
end

-- renew_and_reap.lua: which calls are still in flight?  Renews leases, reaps expired ones (reap.lua), and tidies up.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins; drain.lua, lease.lua and reap.lua follow
-- ARGV     2... calls whose leases are renewed
-- Returns  {tokens_day, images_day, {{model, method} of each lost call...}, format}: first the usage of the day's
--          budgets; after 100 lost calls there may be more; format: 0 something could not be read, 1 ours, 2 a newer one

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

-- Ids of settled calls are kept for an hour, records for 90 days, and so is all state of a client without calls.
redis.call("ZREMRANGEBYSCORE", settled, "-inf", now - 3600000)
redis.call("XTRIM", usage, "MINID", "~", string.format("%.0f", now - 7776000000))
for _, key in ipairs(KEYS) do
  if redis.call("PTTL", key) < 7689600000 then redis.call("PEXPIRE", key, 7776000000) end
end

local unread = redis.call("HGET", limits, "unread")
if unread and today > (tonumber(unread:match("^%d+")) or 0) + 1 then -- it was of a day that is over
  redis.call("HDEL", limits, "unread")
  unread = false
end
return { tokens_day, images_day, lost, unread and 0 or (it[7] or FORMAT) == FORMAT and #it <= 7 and 1 or 2 }
