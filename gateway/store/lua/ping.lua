#!lua
-- ping.lua: does the server do what calls need?  It runs a script that writes; a full or read-only server refuses that.
--
-- KEYS     1 a key that nobody else needs
-- Returns  OK

return redis.call("SET", KEYS[1], 1, "PX", 1)
