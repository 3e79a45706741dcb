#!lua
-- settle.lua: a call has ended.  Gives its place back, corrects what was reserved to what was used, and appends its
-- record to the client's stream; once, whoever asks again, and not at all for a call that was recorded as lost.
--
-- Of a reservation that was too large the rest is given back, until the time at which it would have drained; what was
-- too small is charged, also past the limit.  Budgets are corrected on the day of admission only.  A call without a
-- lease was admitted while the store was away: it is recorded, and charged to the day's budgets.
-- A void call never began: what it took is given back, nothing is recorded, and it can no longer be admitted.
--
-- KEYS     1 limits   2 leases   3 settled   4 usage, as in admit.lua
-- ARGV     1 the limits, as in admit.lua
--          2 {call, outcome ("" = void), usage (reported, estimated, none), tokens, tokens in, tokens out, images,
--             model, method, request id, ms of admission, where there is no lease}, in MessagePack
-- Returns  1, or 0 when the call was settled before: then nothing has changed

local limits, leases, settled, usage = unpack(KEYS)
local pace, _, token_pace = unpack(cmsgpack.unpack(ARGV[1]))
local id, outcome, source, tokens, tokens_in, tokens_out, images, model, method, request, begun =
  unpack(cmsgpack.unpack(ARGV[2]))
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local today = math.floor(now / 86400000)

if redis.call("ZADD", settled, "NX", now, id) == 0 then return 0 end

local requests_until, tokens_until, reserved, reserved_images = 0, 0, 0, 0
local levels, lease = unpack(redis.call("HMGET", limits, "levels", id))
if lease then
  local call
  begun, requests_until, tokens_until, call = cmsgpack.unpack(lease)
  reserved, reserved_images = call[2], call[3]
  redis.call("ZREM", leases, id)
  redis.call("HDEL", limits, id)
end

local at, requests, spent, day, tokens_day, images_day = now, 0, 0, today, 0, 0
if levels then at, requests, spent, day, tokens_day, images_day = cmsgpack.unpack(levels) end
local passed = math.max(0, now - at)
requests = pace > 0 and math.max(0, requests - passed * pace / 60000) or 0
spent = token_pace > 0 and math.max(0, spent - passed * token_pace / 60000) or 0
if day ~= today then tokens_day, images_day = 0, 0 end

local more = tokens - reserved
if lease and outcome == "" and now < requests_until then requests = math.max(0, requests - 1) end
if lease and (more > 0 or now < tokens_until) then spent = math.max(0, spent + more) end
if math.floor(begun / 86400000) == today then
  tokens_day, images_day = math.max(0, tokens_day + more), math.max(0, images_day + images - reserved_images)
end
redis.call("HSET", limits, "levels", cmsgpack.pack(now, requests, spent, today, tokens_day, images_day))

if outcome ~= "" then
  redis.call("XADD", usage, "*", "call", id, "at", begun, "request", request, "model", model,
    "method", method, "outcome", outcome, "usage", source, "tokens", tokens, "in", tokens_in, "out", tokens_out,
    "images", images)
end
return 1
