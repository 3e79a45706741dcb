-- correct.lua: what has a task cost in the end?  Its creation was charged an estimate; this corrects the budgets, of the
-- period in which it was created alone, and appends a record; once, however often it runs, since a task is open but once.
--
-- Rates are left alone: what the creation took of them has drained by now.
--
-- KEYS, ARGV 1   as in state.lua, with which this begins; drain.lua and lease.lua follow
-- ARGV     2 {task, usage (reported, estimated), {unit: amount more than was charged}, model,
--             method, request id, {field: text, of the record}}, in MessagePack
-- Returns  1, or 0 when the task was not open: then nothing has changed

local id, source, more, model, method, request, notes = unpack(cmsgpack.unpack(ARGV[2]))
local begun = tonumber(redis.call("ZSCORE", tasks, id) or "")
if not begun then return 0 end
redis.call("ZREM", tasks, id)

local day, changed = floor(begun / 86400000), false
for at = 1, #budget_names do
  local name, amount, counter = budget_names[at], more[budget_units[at]] or 0, counters[at]
  if amount ~= 0 and period_of(windows[at], day) == counter[PERIOD] then
    counter[USED] = max(0, counter[USED] + amount)
    rows[name], changed = counter, true
  end
end

local reply = changed and redis.pcall("HSET", stored())
if not failed(reply) then
  reply = record(id, begun, request, model, method, "corrected", source, more, 0, more.tokens or 0, notes)
end
if failed(reply) then -- undo: the correction will be sent again
  if changed then redis.pcall("HSET", limits, "state", state) end
  redis.call("ZADD", tasks, begun, id)
  return reply
end
return 1

