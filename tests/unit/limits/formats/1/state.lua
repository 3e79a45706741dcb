#!lua
-- state.lua: what has a client taken by now?  With this begin admit.lua, settle.lua and renew_and_reap.lua.
--
-- A limit per minute is a bucket: its level rises by what a call takes and falls at the limit's pace.  It decides as
-- GCRA does; in units, it outlives a changed limit and a jumping clock; without a limit it stands still.  Of its level,
-- `held` is of calls under way and drains last, from all alike: `share` of what they took is still there, or nothing if
-- they began before `since`.  So what a call gives back never drained before, and no token counts twice.
-- A day's budget counts up until midnight UTC.  The clock is the server's.
-- `#!lua` lets a full or read-only server refuse the script as a whole.
--
-- KEYS     1 limits (hash: state, seen, and of each call its lease)   2 leases (zset: call, expiry)
--          3 settled (zset: call, time)   4 usage (stream); all times in ms
-- ARGV     1 {requests_per_minute, burst, tokens_per_minute, tokens_per_day, images_per_day, concurrent (0 = no limit),
--             ms of a lease}, in MessagePack, which costs both ends less than words

local limits, leases, settled, usage = unpack(KEYS)
local pace, burst, token_pace, day_tokens, day_images, concurrent, lease_ms = unpack(cmsgpack.unpack(ARGV[1]))
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local today = math.floor(now / 86400000)

local at, day, tokens_day, images_day = now, today, 0, 0
local LEVEL, HELD, SHARE, SINCE = 1, 2, 3, 4 -- of a bucket
local requests, tokens = { 0, 0, 1, 0 }, { 0, 0, 1, 0 }
local state = redis.call("HGET", limits, "state")
if state then at, day, tokens_day, images_day, requests, tokens = cmsgpack.unpack(state) end
if day ~= today then tokens_day, images_day = 0, 0 end

local function drain(bucket, per_minute)
  local level = math.max(0, bucket[LEVEL] - math.max(0, now - at) * per_minute / 60000)
  if bucket[HELD] > level then bucket[HELD], bucket[SHARE] = level, bucket[SHARE] * level / bucket[HELD] end
  if bucket[SHARE] < 1e-9 then bucket[SHARE], bucket[SINCE] = 1, now end
  bucket[LEVEL] = level
end
drain(requests, pace)
drain(tokens, token_pace)

local function release(bucket, begun, took, share) -- a call is no longer under way; returns what it took and is there
  local own = begun >= bucket[SINCE] and took * bucket[SHARE] / share or 0
  bucket[HELD] = math.max(0, bucket[HELD] - own)
  return own
end

local function keep(...) -- and with it what else belongs into that hash
  redis.call("HSET", limits, "state", cmsgpack.pack(now, today, tokens_day, images_day, requests, tokens), ...)
end

