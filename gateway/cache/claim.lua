-- claim.lua: keep a claim for longer, or give it up, where it is still held.
--
-- KEYS[1]  the claim's key
-- ARGV[1]  the claim
-- ARGV[2]  ms that it lasts from now; 0 gives it up
-- Returns 1 when it was held.

if redis.call("GET", KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call("PEXPIRE", KEYS[1], ARGV[2])
