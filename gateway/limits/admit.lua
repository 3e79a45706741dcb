#!lua
-- admit.lua: may this call begin?  Takes from every limit of the client, or from none.
--
-- A limit per minute is a bucket: its level rises by what a call takes and falls at the limit's pace.  It decides as
-- GCRA does; in units, it outlives a changed limit and a jumping clock.  A day's budget counts up until midnight UTC.
-- Concurrency is the number of leases; visit.lua looks after them.  The clock is the server's.
-- `#!lua` lets a full or read-only server refuse the script as a whole.
--
-- KEYS     1 limits (hash: levels, seen, and of each call its lease)   2 leases (zset: call, expiry)
--          3 settled (zset: call, time)   4 usage (stream); all times in ms
-- ARGV     arrays in MessagePack, which costs both ends less than words
--          1 {requests_per_minute, burst, tokens_per_minute, tokens_per_day, images_per_day, concurrent (0 = no limit),
--             ms of a lease}   2 {call, tokens, images, worker, model, method, request id}
-- Returns  {refused, wait, requests, tokens, tokens_day, images_day, midnight}, in MessagePack
--          refused: 0, or the limit that is free last: 1 requests_per_minute, 2 tokens_per_minute, 3 tokens_per_day,
--          4 images_per_day, 5 concurrent; -1 = settled before.  wait, midnight: ms from now

local limits, leases, settled = unpack(KEYS)
local pace, burst, token_pace, day_tokens, day_images, concurrent, lease_ms = unpack(cmsgpack.unpack(ARGV[1]))
local id, cost, images = unpack(cmsgpack.unpack(ARGV[2]))
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local today = math.floor(now / 86400000)
local midnight = (today + 1) * 86400000 - now

local at, requests, tokens, day, tokens_day, images_day = now, 0, 0, today, 0, 0
local levels = redis.call("HGET", limits, "levels")
if levels then at, requests, tokens, day, tokens_day, images_day = cmsgpack.unpack(levels) end
local passed = math.max(0, now - at)
requests = pace > 0 and math.max(0, requests - passed * pace / 60000) or 0
tokens = token_pace > 0 and math.max(0, tokens - passed * token_pace / 60000) or 0
if day ~= today then tokens_day, images_day = 0, 0 end

local refused, wait = 0, 0
local function check(number, limit, used, more, ms_per_unit, ms)
  local over = used + more - limit
  if limit > 0 and more > 0 and over > 1e-6 and over * ms_per_unit + ms > wait then
    refused, wait = number, over * ms_per_unit + ms
  end
end
check(1, burst, requests, 1, 60000 / pace, 0)
check(2, token_pace, tokens, cost, 60000 / token_pace, 0)
check(3, day_tokens, tokens_day, cost, 0, midnight)
check(4, day_images, images_day, images, 0, midnight)
check(5, concurrent, redis.call("ZCARD", leases), 1, 0, 1000)
if redis.call("ZSCORE", settled, id) then refused = -1 end

if refused == 0 then
  requests, tokens, tokens_day, images_day = requests + 1, tokens + cost, tokens_day + cost, images_day + images
end
levels = cmsgpack.pack(now, requests, tokens, today, tokens_day, images_day)
if refused == 0 then
  local requests_until, tokens_until = now + requests * 60000 / pace, now + tokens * 60000 / token_pace -- drained
  redis.call("ZADD", leases, now + lease_ms, id)
  redis.call("HSET", limits, "levels", levels, id, cmsgpack.pack(now, requests_until, tokens_until) .. ARGV[2])
elseif now < at then -- the clock went back: the buckets drain from here on
  redis.call("HSET", limits, "levels", levels)
end
return cmsgpack.pack({ refused, wait, requests, tokens, tokens_day, images_day, midnight })
