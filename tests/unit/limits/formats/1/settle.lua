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

-- settle.lua: a call has ended.  Gives its place back, corrects what was reserved to what was used, and appends its
-- record to the client's stream; once, however often it runs, and not at all for a call that was recorded as lost.
--
-- Of a reservation that was too large the rest is given back, as far as it has not drained; what was too small is
-- charged, also past the limit.  Budgets are corrected for the day of admission only.  A call without a
-- lease was admitted while the store was unavailable: it is recorded, and charged to the day's budgets.
-- A void call never began: what it took is given back, nothing is recorded, and it can no longer be admitted.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins; drain.lua and lease.lua follow
-- ARGV     2 {call, outcome ("" = void), usage (reported, estimated, none), tokens, tokens in, tokens out, images,
--             model, method, request id, ms of admission, where there is no lease}, in MessagePack
-- Returns  1, or 0 when the call was settled before: then nothing has changed

local id, outcome, source, spent, tokens_in, tokens_out, images, model, method, request, begun =
  unpack(cmsgpack.unpack(ARGV[2]))
if ended(id) then
  forget(id)
  return 0
end

local lease = lease_of(id)
local held = lease or { begun, 0, 1, 0, 1, {}, FORMAT, day - today }
local call, ahead = held[6], tonumber(held[8]) or 0
begun = held[1]

local own_request, own_tokens = release(requests, held, 1), release(tokens, held, 2)
local more, more_images = spent - (call[2] or 0), images - (call[3] or 0)
if outcome == "" then requests[LEVEL] = math.max(0, requests[LEVEL] - own_request) end
if more < 0 then
  tokens[LEVEL] = math.max(0, tokens[LEVEL] - math.min(-more, own_tokens))
elseif lease and token_pace > 0 then
  tokens[LEVEL] = tokens[LEVEL] + more
end
if math.floor(begun / 86400000) + ahead == day then
  tokens_day, images_day = math.max(0, tokens_day + more), math.max(0, images_day + more_images)
end

local reply = redis.pcall("HSET", stored())
if not failed(reply) and outcome ~= "" then
  reply = record(id, begun, request, model, method, outcome, source, spent, tokens_in, tokens_out, images)
end
if failed(reply) then -- undo: the settlement will be sent again
  redis.pcall("HSET", limits, "state", state)
  redis.call("ZADD", settled, 0, id)
  return reply
end
forget(id)
return 1
