-- get_or_claim.lua: hand over the answer that is kept, else the right to get it.
--
-- KEYS[1]  the answer; it begins with 13 digits: when it was made, in ms since 1970
-- KEYS[2]  the claim of whoever is getting it
-- KEYS[3]  one character where others wait for it
-- ARGV[1]  when the oldest answer that will do was made
-- ARGV[2]  a claim; "" for none
-- ARGV[3]  ms that it lasts unless it is renewed
-- ARGV[4]  ms for which whoever looks in vain counts as waiting
-- ARGV[5]  bytes of the largest answer that is handed over here: Lua copies it twice
-- Returns the answer; or 2 when it is there but larger; else 1 when it is now claimed by this claim; else 0.

local made = tonumber(redis.call("GETRANGE", KEYS[1], 0, 12))
if made and made >= tonumber(ARGV[1]) then
    if redis.call("STRLEN", KEYS[1]) > tonumber(ARGV[5]) then
        return 2
    end
    return redis.call("GET", KEYS[1])
end
if ARGV[2] == "" then
    return 0
end
if redis.call("SET", KEYS[2], ARGV[2], "NX", "PX", ARGV[3]) then
    return 1
end
redis.pcall("SET", KEYS[3], 1, "PX", ARGV[4]) -- a full store takes no key, and is waited for all the same
return 0
