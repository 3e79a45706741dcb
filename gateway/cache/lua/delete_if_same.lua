-- delete_if_same.lua: delete an answer that is damaged, unless another has replaced it.
--
-- KEYS[1]  the answer
-- ARGV[1]  its first bytes: when it was made, and its checksum
-- ARGV[2]  its length
-- Returns 1 when it was deleted.

if redis.call("STRLEN", KEYS[1]) ~= tonumber(ARGV[2]) then
    return 0
end
if redis.call("GETRANGE", KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then
    return 0
end
return redis.call("UNLINK", KEYS[1])
