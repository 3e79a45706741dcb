-- get_or_claim.lua: return the cached answer, else claim the right to ask the upstream for it.
--
-- KEYS[1]  the answer; it begins with 13 digits: when it was made, in ms since 1970
-- KEYS[2]  the claim of the worker that asks for it
-- KEYS[3]  one character where others wait for it
-- ARGV[1]  when the oldest acceptable answer was made
-- ARGV[2]  a claim's token; "" for none
-- ARGV[3]  ms that it lasts unless it is renewed
-- ARGV[4]  ms for which a worker that polls in vain counts as waiting
-- ARGV[5]  bytes of the largest answer that is returned here: Lua copies it twice
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
redis.pcall("SET", KEYS[3], 1, "PX", ARGV[4]) -- a full store takes no key: callers wait without being marked
return 0
