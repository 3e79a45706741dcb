#!lua
-- own.lua: whose is this task?  The first who says so owns it, however often it is said.
--
-- KEYS     1 record of the task
-- ARGV     1 the record that it shall have   2 seconds for which it is kept
-- Returns  the record that it has

local known = redis.call("GET", KEYS[1])
if known then return known end
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
return ARGV[1]
