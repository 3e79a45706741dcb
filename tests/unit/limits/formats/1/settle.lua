-- settle.lua: a call has ended.  Gives its place back, corrects what was reserved to what was used, and appends its
-- record to the client's stream; once, whoever asks again, and not at all for a call that was recorded as lost.
--
-- Of a reservation that was too large the rest is given back, as far as it has not drained; what was too small is
-- charged, also past the limit.  Budgets are corrected on the day of admission only.  A call without a
-- lease was admitted while the store was away: it is recorded, and charged to the day's budgets.
-- A void call never began: what it took is given back, nothing is recorded, and it can no longer be admitted.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins
-- ARGV     2 {call, outcome ("" = void), usage (reported, estimated, none), tokens, tokens in, tokens out, images,
--             model, method, request id, ms of admission, where there is no lease}, in MessagePack
-- Returns  1, or 0 when the call was settled before: then nothing has changed

local id, outcome, source, spent, tokens_in, tokens_out, images, model, method, request, begun =
  unpack(cmsgpack.unpack(ARGV[2]))
if redis.call("ZADD", settled, "NX", now, id) == 0 then return 0 end

local lease, call = redis.call("HGET", limits, id), {}
local requests_took, requests_share, tokens_took, tokens_share = 0, 1, 0, 1
if lease then begun, requests_took, requests_share, tokens_took, tokens_share, call = cmsgpack.unpack(lease) end

if outcome ~= "" then
  local record = redis.pcall("XADD", usage, "*", "call", id, "at", begun, "request", request, "model", model, "method",
    method, "outcome", outcome, "usage", source, "tokens", spent, "in", tokens_in, "out", tokens_out, "images", images)
  if type(record) == "table" then -- an error: as if nobody had come, who will come again
    redis.call("ZREM", settled, id)
    return record
  end
end
redis.call("ZREM", leases, id)
redis.call("HDEL", limits, id)

local own_request = release(requests, begun, requests_took, requests_share)
local own_tokens = release(tokens, begun, tokens_took, tokens_share)
local more, more_images = spent - (call[2] or 0), images - (call[3] or 0)
if outcome == "" then requests[LEVEL] = math.max(0, requests[LEVEL] - own_request) end
if more < 0 then
  tokens[LEVEL] = math.max(0, tokens[LEVEL] - math.min(-more, own_tokens))
elseif lease and token_pace > 0 then
  tokens[LEVEL] = tokens[LEVEL] + more
end
if math.floor(begun / 86400000) == today then
  tokens_day, images_day = math.max(0, tokens_day + more), math.max(0, images_day + more_images)
end
keep()
return 1
