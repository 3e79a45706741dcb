#!lua
-- names.lua: which clients are there, and which were there within 90 days?  Their state outlives the clients file.
--
-- KEYS     1 clients (zset: name, ms when it was last in the clients file)
-- ARGV     the names in the file
-- Returns  all names

local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, name in ipairs(ARGV) do redis.call("ZADD", KEYS[1], now, name) end
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now - 7776000000)
return redis.call("ZRANGE", KEYS[1], 0, -1)
