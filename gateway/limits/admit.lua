#!lua
-- admit.lua: may this call begin?  Takes from every limit of the client, or from none.
--
-- A limit per minute is a bucket: its level rises by what a call takes and falls at the limit's pace.  It decides as
-- GCRA does; in units, it outlives a changed limit and a jumping clock.  A day's budget counts up until midnight UTC.
-- Concurrency is the number of leases.  A lease is also the record that its call began: when nobody renews it, its
-- worker is gone, and the call ends here as `lost`, charged as reserved.
-- The clock is the server's.  `#!lua` lets a full or read-only server refuse the script as a whole.
--
-- KEYS     1 limits (hash: seen, at, requests, tokens, day, tokens_day, images_day)   2 leases (zset: call, expiry)
--          3 calls (hash: call, its lease as JSON)   4 settled (zset: call, time)   5 usage (stream); times in ms
-- ARGV     1 call ("" = a visit: admits none)   2 worker   3 model   4 method   5 request id
--          6 ms of a lease   7 requests_per_minute   8 burst   9 tokens_per_minute   10 tokens_per_day
--          11 images_per_day   12 concurrent (7 to 12: 0 = no limit)   13 tokens   14 images   15... calls to renew
-- Returns  {"refused wait requests tokens tokens_day images_day midnight", the lease of each lost call...}
--          refused: 0, or the limit that is free last: 1 requests_per_minute, 2 tokens_per_minute, 3 tokens_per_day,
--          4 images_per_day, 5 concurrent; -1 = nothing asked, or settled before.  wait, midnight: ms from now

local limits, leases, calls, settled, usage = unpack(KEYS)
local id, lease_ms, pace, burst = ARGV[1], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local token_pace, cost, images = tonumber(ARGV[9]), tonumber(ARGV[13]), tonumber(ARGV[14])
local clock = redis.call("TIME")
local now = clock[1] * 1000 + clock[2] / 1000
local today = math.floor(now / 86400000)
local midnight = (today + 1) * 86400000 - now
local state = redis.call("HMGET", limits, "seen", "at", "requests", "tokens", "day", "tokens_day", "images_day")

-- Nobody came for so long: the store was away, or its clock jumped.  That ages no lease.
local unseen = now - (tonumber(state[1]) or now)
if unseen < 0 or unseen > lease_ms * 2 / 3 then
  for _, call in ipairs(redis.call("ZRANGE", leases, 0, -1)) do redis.call("ZINCRBY", leases, unseen, call) end
end
for i = 15, #ARGV do redis.call("ZADD", leases, "XX", now + lease_ms, ARGV[i]) end

local reply = { "" }
for _, call in ipairs(redis.call("ZRANGEBYSCORE", leases, "-inf", now, "LIMIT", 0, 100)) do
  reply[#reply + 1] = redis.call("HGET", calls, call)
  local lost = cjson.decode(reply[#reply])
  redis.call("ZADD", settled, now, call)
  redis.call("XADD", usage, "*", "call", call, "at", lost.at, "request", lost.request, "model", lost.model,
    "method", lost.method, "outcome", "lost", "usage", "estimated", "tokens", lost.tokens, "in", 0, "out", 0,
    "images", lost.images)
  redis.call("ZREM", leases, call)
  redis.call("HDEL", calls, call)
end
if id == "" then -- tidy: settled calls are kept for an hour, records for 90 days, and all of a client no longer visited
  redis.call("ZREMRANGEBYSCORE", settled, "-inf", now - 3600000)
  redis.call("XTRIM", usage, "MINID", "~", string.format("%.0f", now - 7776000000))
  for _, key in ipairs({ limits, settled, usage }) do
    if redis.call("PTTL", key) < 7689600000 then redis.call("PEXPIRE", key, 7776000000) end
  end
end

local passed = math.max(0, now - (tonumber(state[2]) or now))
local function level(value, per_minute)
  return per_minute > 0 and math.max(0, (tonumber(value) or 0) - passed * per_minute / 60000) or 0
end
local requests, tokens, live = level(state[3], pace), level(state[4], token_pace), redis.call("ZCARD", leases)
local tokens_day, images_day = 0, 0
if tonumber(state[5]) == today then tokens_day, images_day = tonumber(state[6]), tonumber(state[7]) end

local refused, wait = 0, 0
local function check(number, limit, used, more, ms_per_unit, ms)
  local over = used + more - tonumber(limit)
  ms = ms or over * ms_per_unit
  if tonumber(limit) > 0 and more > 0 and over > 1e-6 and ms > wait then refused, wait = number, ms end
end
check(1, burst, requests, 1, 60000 / pace)
check(2, token_pace, tokens, cost, 60000 / token_pace)
check(3, ARGV[10], tokens_day, cost, 0, midnight)
check(4, ARGV[11], images_day, images, 0, midnight)
check(5, ARGV[12], live, 1, 0, 1000)
if id == "" or redis.call("ZSCORE", settled, id) then refused = -1 end

if refused == 0 then
  live, tokens_day, images_day = live + 1, tokens_day + cost, images_day + images
  if pace > 0 then requests = requests + 1 end
  if token_pace > 0 then tokens = tokens + cost end
  redis.call("ZADD", leases, now + lease_ms, id)
  redis.call("HSET", calls, id, cjson.encode({ at = math.floor(now), day = today, worker = ARGV[2], model = ARGV[3],
    method = ARGV[4], request = ARGV[5], tokens = cost, images = images, -- and when what it took will have drained:
    requests_until = now + requests * 60000 / math.max(pace, 1),
    tokens_until = now + tokens * 60000 / math.max(token_pace, 1) }))
end
if live > 0 then
  redis.call("HSET", limits, "seen", now, "at", now, "requests", requests, "tokens", tokens, "day", today,
    "tokens_day", tokens_day, "images_day", images_day)
end
reply[1] = table.concat({ refused, wait, requests, tokens, tokens_day, images_day, midnight }, " ")
return reply
