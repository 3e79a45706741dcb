-- reap.lua: which calls have lost their worker?  Runs behind lease.lua, for renew_and_reap.lua.
--
-- A lease is the record that its call began: when nobody renews it, its worker is gone, and the call ends here as
-- `lost`, charged as reserved.  One that cannot be read is a place all the same, of a call of which nothing is known.

local function reap() -- {{model, method} of each lost call...}, or nil and the store's error
  local lost, gone = {}, redis.call("ZRANGEBYSCORE", leases, "-inf", now, "LIMIT", 0, 100)
  if #gone > 0 then -- where the store refuses to give a place back, no call is recorded
    forget("")
    redis.call("HSET", stored())
  end
  for _, id in ipairs(gone) do
    if not ended(id) then
      local begun, took, call = unpack(lease_of(id) or { now, {}, { id, {}, "", "", "other", "" } }, 1, 3)
      local reply = record(id, begun, call[6], call[4], call[5], "lost", "estimated", call[2], 0, 0)
      if failed(reply) then
        redis.call("ZADD", settled, 0, id)
        return nil, reply
      end
      for at = 1, #rate_names do release(buckets[at], took[rate_names[at]]) end
      lost[#lost + 1] = { call[4], call[5] }
    end
    forget(id)
  end
  if #lost > 0 then redis.call("HSET", stored()) end
  return lost
end

