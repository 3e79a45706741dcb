-- drain.lua: how much of each limit is used by now?  Runs behind state.lua.
--
-- A rate is a bucket: its level rises by what a call takes and falls at the limit's pace.  It decides as GCRA does; in
-- units, it outlives a changed limit and a jumping clock; without a limit it stands still.  Of its level,
-- `held` is of calls in flight and drains last, from all alike: `share` of what they took is still there, or nothing if
-- `since` was another when they began.  So what a call gives back never drained before, and no token counts twice.
-- A budget counts up until its period, a UTC day or calendar month, is over.  A clock that goes back begins no period
-- anew: what was counted for the next one goes on counting for it.  Was it further ahead, it was wrong, and no call is
-- to wait until then.

local LEVEL, HELD, SHARE, SINCE, AT = 1, 2, 3, 4, 5 -- of a rate
local USED, PERIOD = 1, 2 -- of a budget

local function first_day(month) -- of a month, both counted from 1970; a year is taken to begin in March
  local year, after_march = 1970 + floor((month - 2) / 12), (month - 2) % 12
  local leap_days = floor(year / 4) - floor(year / 100) + floor(year / 400)
  return 365 * year + leap_days + floor((153 * after_march + 2) / 5) - 719468
end

local function period_of(window, day) -- the number of the day, or of the month it is in, counted from 1970
  if window == "day" then return day end
  local month = floor(day / 30.5) -- that one, or one before it
  while first_day(month + 1) <= day do month = month + 1 end
  return month
end

local function ends(window, period) -- in ms
  return (window == "day" and period + 1 or first_day(period + 1)) * 86400000
end

local went_back = false -- the clock, and what is stored has to follow it
local buckets = {} -- of each rate, by its place
for at = 1, #rate_names do
  local bucket = rows[rate_names[at]] or { 0, 0, 1, 0, now }
  local held = bucket[HELD]
  local level = max(0, bucket[LEVEL] - max(0, now - bucket[AT]) * paces[at] / 60000)
  if held > level then bucket[HELD], bucket[SHARE] = level, bucket[SHARE] * level / held end
  if bucket[SHARE] < 1e-9 then bucket[SHARE], bucket[SINCE] = 1, max(now, bucket[SINCE] + 1) end
  went_back = went_back or now < bucket[AT]
  bucket[LEVEL], bucket[AT] = level, now
  buckets[at] = bucket
end

local counters = {} -- of each budget, by its place
for at = 1, #budget_names do
  local period = period_of(windows[at], today)
  local counter = rows[budget_names[at]] or { 0, period }
  if counter[PERIOD] < period or counter[USED] == 0 then counter[USED], counter[PERIOD] = 0, period end
  if counter[PERIOD] > period + 1 then counter[PERIOD], went_back = period, true end
  counters[at] = counter
end

