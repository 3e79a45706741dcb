-- admit.lua: may this call begin?  Takes from every limit of the client, or from none.
--
-- Concurrency is the number of leases; renew_and_reap.lua renews and reaps them.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins; drain.lua follows
-- ARGV     2 {call, {unit: amount}, worker, model, method, request id}, in MessagePack
-- Returns  {refused, wait, {level of each rate, use of each budget}, {ms of each budget}}, in MessagePack
--          refused: the name of the limit that is free last, or "", also for a call that was settled before, which
--          takes nothing and whose caller is gone; wait: ms from now; ms of a budget: until its period is over

local id, amounts = unpack(cmsgpack.unpack(ARGV[2]))

local refused, wait, waits = "", 0, {}
local function check(name, limit, used, more, ms_per_unit, ms)
  local over = used + more - limit
  if limit > 0 and more > 0 and over > 1e-6 and over * ms_per_unit + ms > wait then
    refused, wait = name, over * ms_per_unit + ms
  end
end
for at = 1, #rate_names do
  check(rate_names[at], sizes[at], buckets[at][LEVEL], amounts[rate_units[at]] or 0, 60000 / paces[at], 0)
end
for at = 1, #budget_names do
  local counter = counters[at]
  waits[at] = ends(windows[at], counter[PERIOD]) - now
  check(budget_names[at], quotas[at], counter[USED], amounts[budget_units[at]] or 0, 0, waits[at])
end
check(concurrency, places, redis.call("ZCARD", leases), 1, 0, 1000)

if refused == "" and not redis.call("ZSCORE", settled, id) then
  local took = {} -- of a rate {amount, share, since}, of a budget its period
  for at = 1, #rate_names do
    local name, bucket, more = rate_names[at], buckets[at], amounts[rate_units[at]] or 0
    if paces[at] > 0 and more > 0 then
      bucket[LEVEL], bucket[HELD] = bucket[LEVEL] + more, bucket[HELD] + more
      rows[name], took[name] = bucket, { more, bucket[SHARE], bucket[SINCE] }
    end
  end
  for at = 1, #budget_names do
    local name, counter, more = budget_names[at], counters[at], amounts[budget_units[at]] or 0
    if more > 0 then
      counter[USED] = counter[USED] + more
      rows[name], took[name] = counter, counter[PERIOD]
    end
  end
  redis.call("ZADD", leases, now + lease_ms, id)
  redis.call("HSET", stored(id, cmsgpack.pack(now, took) .. ARGV[2]))
elseif went_back then -- buckets drain, and periods count, from here on
  redis.call("HSET", stored())
end
local levels = {}
for at = 1, #buckets do levels[at] = buckets[at][LEVEL] end
for at = 1, #counters do levels[#levels + 1] = counters[at][USED] end
return cmsgpack.pack({ refused, wait, levels, waits })
