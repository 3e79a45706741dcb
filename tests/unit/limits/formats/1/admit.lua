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

-- admit.lua: may this call begin?  Takes from every limit of the client, or from none.
--
-- Concurrency is the number of leases; renew_and_reap.lua renews and reaps them.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins; drain.lua follows
-- ARGV     2 {call, tokens, images, worker, model, method, request id}, in MessagePack
-- Returns  {refused, wait, requests, tokens, tokens_day, images_day, midnight}, in MessagePack
--          refused: 0, or the limit that is free last: 1 requests_per_minute, 2 tokens_per_minute, 3 tokens_per_day,
--          4 images_per_day, 5 concurrent; -1 = settled before.  wait, midnight: ms from now

local id, cost, images = unpack(cmsgpack.unpack(ARGV[2]))
local midnight = (day + 1) * 86400000 - now

local refused, wait = 0, 0
local function check(number, limit, used, more, ms_per_unit, ms)
  local over = used + more - limit
  if limit > 0 and more > 0 and over > 1e-6 and over * ms_per_unit + ms > wait then
    refused, wait = number, over * ms_per_unit + ms
  end
end
check(1, burst, requests[LEVEL], 1, 60000 / pace, 0)
check(2, token_pace, tokens[LEVEL], cost, 60000 / token_pace, 0)
check(3, day_tokens, tokens_day, cost, 0, midnight)
check(4, day_images, images_day, images, 0, midnight)
check(5, concurrent, redis.call("ZCARD", leases), 1, 0, 1000)
if redis.call("ZSCORE", settled, id) then refused = -1 end

local function take(bucket, amount)
  bucket[LEVEL], bucket[HELD] = bucket[LEVEL] + amount, bucket[HELD] + amount
  return amount
end
if refused == 0 then
  local requests_took, tokens_took = take(requests, pace > 0 and 1 or 0), take(tokens, token_pace > 0 and cost or 0)
  tokens_day, images_day = tokens_day + cost, images_day + images
  redis.call("ZADD", leases, now + lease_ms, id)
  local lease = cmsgpack.pack(now, requests_took, requests[SHARE], tokens_took, tokens[SHARE])
  local more = cmsgpack.pack(FORMAT, day - today, requests[SINCE], tokens[SINCE])
  redis.call("HSET", stored(id, lease .. ARGV[2] .. more))
elseif now < at then -- the clock went back: the buckets drain from here on
  redis.call("HSET", stored())
end
return cmsgpack.pack({ refused, wait, requests[LEVEL], tokens[LEVEL], tokens_day, images_day, midnight })
