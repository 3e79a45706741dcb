#!lua flags=no-writes
-- room.lua: how full is the server that holds this key?  It runs also where the server is full.
--
-- KEYS     1 any key that lives there
-- Returns  {bytes used, bytes allowed}; {0, 0} where INFO is forbidden or no maximum is set

local info = redis.pcall("INFO", "memory")
if type(info) ~= "string" then return { 0, 0 } end
return { tonumber(info:match("used_memory:(%d+)")), tonumber(info:match("maxmemory:(%d+)")) }
