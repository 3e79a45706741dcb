#!lua
-- settle.lua: a call has ended.  Gives its place back, corrects what was reserved to what was used, and appends its
-- record to the client's stream; once, whoever asks again, and not at all for a call that was recorded as lost.
--
-- Of a reservation that was too large the rest is given back, until the time at which it would have drained; what was
-- too small is charged, also past the limit.  Budgets are corrected on the day of admission only.  A call without a
-- lease was admitted while the store was away: it is recorded, and charged to the day's budgets.
-- A void call never began: what it took is given back, nothing is recorded, and it can no longer be admitted.
--
-- KEYS     1 limits   2 leases   3 calls   4 settled   5 usage, as in admit.lua
-- ARGV     1 call   2 outcome ("" = void)   3 usage (reported, estimated, none)   4 tokens   5 tokens in
--          6 tokens out   7 images   8 model   9 method   10 request id   11 ms of admission, where there is no lease
--          12 requests_per_minute   13 tokens_per_minute (12, 13: 0 = no limit)
-- Returns  1, or 0 when the call was settled before: then nothing has changed

local limits, leases, calls, settled, usage = unpack(KEYS)
local id, outcome, tokens, images, at = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[7]), tonumber(ARGV[11])
local pace, token_pace = tonumber(ARGV[12]), tonumber(ARGV[13])
local clock = redis.call("TIME")
local now = clock[1] * 1000 + clock[2] / 1000
local today = math.floor(now / 86400000)

if redis.call("ZADD", settled, "NX", now, id) == 0 then return 0 end

local begun = redis.call("HGET", calls, id)
local lease = begun and cjson.decode(begun) or { at = at, day = math.floor(at / 86400000), tokens = 0, images = 0 }
redis.call("ZREM", leases, id)
redis.call("HDEL", calls, id)

local state = redis.call("HMGET", limits, "at", "requests", "tokens", "day", "tokens_day", "images_day")
local passed = math.max(0, now - (tonumber(state[1]) or now))
local function level(value, per_minute)
  return per_minute > 0 and math.max(0, (tonumber(value) or 0) - passed * per_minute / 60000) or 0
end
local requests, spent = level(state[2], pace), level(state[3], token_pace)
local tokens_day, images_day = 0, 0
if tonumber(state[4]) == today then tokens_day, images_day = tonumber(state[5]), tonumber(state[6]) end

local more = tokens - lease.tokens
if begun and outcome == "" and now < lease.requests_until then requests = math.max(0, requests - 1) end
if begun and token_pace > 0 and (more > 0 or now < lease.tokens_until) then spent = math.max(0, spent + more) end
if lease.day == today then
  tokens_day, images_day = math.max(0, tokens_day + more), math.max(0, images_day + images - lease.images)
end
redis.call("HSET", limits, "at", now, "requests", requests, "tokens", spent, "day", today,
  "tokens_day", tokens_day, "images_day", images_day)

if outcome ~= "" then
  redis.call("XADD", usage, "*", "call", id, "at", lease.at, "request", ARGV[10], "model", ARGV[8],
    "method", ARGV[9], "outcome", outcome, "usage", ARGV[3], "tokens", tokens, "in", ARGV[5], "out", ARGV[6],
    "images", images)
end
return 1
