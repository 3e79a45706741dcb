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

