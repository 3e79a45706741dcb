-- settle.lua: a call has ended.  Gives its place back, corrects what was reserved to what was used, and appends its
-- record to the client's stream; once, however often it runs, and not at all for a call that was recorded as lost.
--
-- Of a reservation that was too large the rest is given back, as far as it has not drained; what was too small is
-- charged, also past the limit.  A budget is corrected for the period of admission only.  A call without a
-- lease was admitted while the store was unavailable: it is recorded, and charged to the budgets.
-- The task that a call has created is open from here on: see correct.lua.
-- A void call never began: what it took is given back, nothing is recorded, and it can no longer be admitted.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins; drain.lua and lease.lua follow
-- ARGV     2 {call, outcome ("" = void), usage (reported, estimated, none), {unit: amount}, tokens in, tokens out,
--             model, method, request id, ms of admission, where there is no lease, {field: text, of the record}},
--             in MessagePack
-- Returns  1, or 0 when the call was settled before: then nothing has changed

local id, outcome, source, amounts, tokens_in, tokens_out, model, method, request, begun, notes =
  unpack(cmsgpack.unpack(ARGV[2]))
if ended(id) then
  forget(id)
  return 0
end

local lease = lease_of(id)
local took, reserved = {}, {}
if lease then begun, took, reserved = lease[1], lease[2], lease[3][2] end

for at = 1, #rate_names do
  local name, unit, bucket = rate_names[at], rate_units[at], buckets[at]
  local more, own = (amounts[unit] or 0) - (reserved[unit] or 0), release(bucket, took[name])
  if more < 0 then
    bucket[LEVEL] = max(0, bucket[LEVEL] - min(-more, own))
  elseif more > 0 and lease and paces[at] > 0 then
    bucket[LEVEL] = bucket[LEVEL] + more
    rows[name] = bucket
  end
end
for at = 1, #budget_names do
  local name, unit, counter = budget_names[at], budget_units[at], counters[at]
  local more, period = (amounts[unit] or 0) - (reserved[unit] or 0), took[name]
  if more ~= 0 then
    local same = period == counter[PERIOD]
    if not period then same = period_of(windows[at], floor(begun / 86400000)) == period_of(windows[at], today) end
    if same then counter[USED] = max(0, counter[USED] + more) end
    rows[name] = counter
  end
end

local reply = redis.pcall("HSET", stored())
local task = notes and notes.task
if not failed(reply) and task then reply = redis.pcall("ZADD", tasks, begun, task) end
if not failed(reply) and outcome ~= "" then
  reply = record(id, begun, request, model, method, outcome, source, amounts, tokens_in, tokens_out, notes)
end
if failed(reply) then -- undo: the settlement will be sent again
  redis.pcall("HSET", limits, "state", state)
  if task then redis.pcall("ZREM", tasks, task) end
  redis.call("ZADD", settled, 0, id)
  return reply
end
forget(id)
return 1
