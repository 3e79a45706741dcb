#!lua
-- allow.lua: may a client ask once more for a task?  A bucket that drains at a steady pace (GCRA).
--
-- KEYS     1 the client's bucket (string: when it is empty, ms)
-- ARGV     1 ms after which one more goes through   2 how many go through at once
-- Returns  0, or ms to wait

local clock = redis.call("TIME")
local now = clock[1] * 1000 + clock[2] / 1000
local pace, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local most = now + pace * size -- also where the clock has gone back
local empty = math.min(math.max(tonumber(redis.call("GET", KEYS[1])) or 0, now), most) + pace
if empty > most + 0.001 then return math.ceil(empty - most) end
redis.call("SET", KEYS[1], string.format("%.3f", empty), "PX", math.ceil(pace * size))
return 0
