-- admit.lua: may this call begin?  Takes from every limit of the client, or from none.
--
-- Concurrency is the number of leases; renew_and_reap.lua looks after them.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins
-- ARGV     2 {call, tokens, images, worker, model, method, request id}, in MessagePack
-- Returns  {refused, wait, requests, tokens, tokens_day, images_day, midnight}, in MessagePack
--          refused: 0, or the limit that is free last: 1 requests_per_minute, 2 tokens_per_minute, 3 tokens_per_day,
--          4 images_per_day, 5 concurrent; -1 = settled before.  wait, midnight: ms from now

local id, cost, images = unpack(cmsgpack.unpack(ARGV[2]))
local midnight = (today + 1) * 86400000 - now

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
  keep(id, lease .. ARGV[2])
elseif now < at then -- the clock went back: the buckets drain from here on
  keep()
end
return cmsgpack.pack({ refused, wait, requests[LEVEL], tokens[LEVEL], tokens_day, images_day, midnight })
