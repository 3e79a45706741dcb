#!lua
-- state.lua: what has a client taken by now?  All scripts of the limits begin with this text.
--
-- The clock is the server's.  What each limit has taken is kept under its name, so that versions that have more limits
-- or fewer read each other's state, and leave alone what they do not know; what cannot be read is set aside as
-- `unread`.  `#!lua` lets a full or read-only server refuse the script as a whole.
--
-- KEYS     1 limits (hash: state, seen, unread, and of each call its lease)   2 leases (zset: call, expiry)
--          3 settled (zset: call, time)   4 usage (stream)   5 tasks (zset: open task, its creation); all times in ms
-- ARGV     1 {rates, budgets, name of the concurrency, calls at once, ms of a lease}, in MessagePack, which costs both
--            ends less than text; of the limits in gateway/limit_table.py each list has one entry a limit; 0 = no limit
--            rates     {names, units, amounts a minute, amounts at once}
--            budgets   {names, units, windows (day, month), amounts}
-- State    {format, rows}: of a rate {level, held, share, since, at}, of a budget {used, period}: see drain.lua

local limits, leases, settled, usage, tasks = unpack(KEYS)
local rates, budgets, concurrency, places, lease_ms = unpack(cmsgpack.unpack(ARGV[1]))
local rate_names, rate_units, paces, sizes = unpack(rates)
local budget_names, budget_units, windows, quotas = unpack(budgets)
local floor, max, min = math.floor, math.max, math.min
local clock = redis.call("TIME")
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local today = floor(now / 86400000)

local FORMAT = 2
local function unreadable(packed)
  redis.call("HSET", limits, "unread", today .. " " .. packed)
end

local state = redis.call("HGET", limits, "state")
local known, it = pcall(function()
  local it = cmsgpack.unpack(state)
  local rows = it.rows
  assert(it.format >= FORMAT)
  for at = 1, #rate_names do -- a sum fails unless all are numbers
    local kept = rows[rate_names[at]]
    assert(not kept or kept[1] + kept[2] + kept[3] + kept[4] + kept[5] >= 0)
  end
  for at = 1, #budget_names do
    local kept = rows[budget_names[at]]
    assert(not kept or kept[1] + kept[2] >= 0)
  end
  return it
end)
if not known then
  if state then unreadable(state) end
  it = { format = FORMAT, rows = {} }
  state = cmsgpack.pack(it)
end
local rows = it.rows

local function stored(...) -- the arguments of HSET: the state, and what else belongs into that hash
  return limits, "state", cmsgpack.pack(it), ...
end

