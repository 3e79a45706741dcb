#!lua flags=no-writes
-- room.lua: how full is the server that holds this key?  Also where it is full, and where INFO is forbidden.
--
-- KEYS     1 any key that lives there
-- Returns  {bytes used, bytes allowed}; {0, 0} where nobody may know or nothing bounds it

local info = redis.pcall("INFO", "memory")
if type(info) ~= "string" then return { 0, 0 } end
return { tonumber(info:match("used_memory:(%d+)")), tonumber(info:match("maxmemory:(%d+)")) }
