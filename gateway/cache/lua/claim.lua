-- claim.lua: renew a claim, or take it again where the store has lost it, or release it; but not another's.
--
-- KEYS[1]  the claim's key
-- KEYS[2]  one character where others wait for the answer
-- ARGV[1]  the claim's token
-- ARGV[2]  ms that it lasts from now; 0 releases it
-- Returns 1 when others wait for it.

local held = redis.call("GET", KEYS[1])
if held and held ~= ARGV[1] then
    return 0
end
if ARGV[2] == "0" then
    redis.call("UNLINK", KEYS[1])
elseif redis.call("PEXPIRE", KEYS[1], ARGV[2]) == 0 then
    redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
end
return redis.call("STRLEN", KEYS[2])
