#!lua
-- probe.lua: does the server do what calls need?  The probes of limits and cache begin with this text.
--
-- `try` tries one command; `verdict` is the reply: OK, or an error that lists the commands that are refused.

local refused = {}
local function try(command, ...)
  local reply = redis.pcall(command, ...)
  if type(reply) == "table" and reply.err then
    refused[#refused + 1] = command .. (reply.err:find("nknown", 1, true) and " (unknown to it)" or "")
  end
end

local function verdict()
  for _, key in ipairs(KEYS) do try("PEXPIRE", key, 1) end
  if #refused == 0 then return redis.status_reply("OK") end
  return redis.error_reply("REFUSED its user may not run " .. table.concat(refused, ", "))
end
