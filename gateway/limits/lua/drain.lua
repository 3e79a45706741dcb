-- drain.lua: how much of each bucket has drained by now?  Runs behind state.lua.
--
-- A limit per minute is a bucket: its level rises by what a call takes and falls at the limit's pace.  It decides as
-- GCRA does; in units, it outlives a changed limit and a jumping clock; without a limit it stands still.  Of its level,
-- `held` is of calls in flight and drains last, from all alike: `share` of what they took is still there, or nothing if
-- `since` was another when they began.  So what a call gives back never drained before, and no token counts twice.
-- A day's budget counts up until midnight UTC.  A clock that goes back begins no day anew: what was counted for the
-- next day goes on counting for it.  Was it further ahead, it was wrong, and no call is to wait until then.

local LEVEL, HELD, SHARE, SINCE = 1, 2, 3, 4 -- of a bucket

if day < today then day, tokens_day, images_day = today, 0, 0 end
if day > today + 1 then day = today end

local function drain(bucket, per_minute)
  local level = math.max(0, bucket[LEVEL] - math.max(0, now - at) * per_minute / 60000)
  if bucket[HELD] > level then bucket[HELD], bucket[SHARE] = level, bucket[SHARE] * level / bucket[HELD] end
  if bucket[SHARE] < 1e-9 then bucket[SHARE], bucket[SINCE] = 1, math.max(now, bucket[SINCE] + 1) end
  bucket[LEVEL] = level
end
drain(requests, pace)
drain(tokens, token_pace)

