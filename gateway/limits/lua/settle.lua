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
