-- POST payments: arguments are prefix, token, the body with NAME in it, and how many names to go round in (0: each
-- request has its own). https://github.com/wg/wrk/blob/master/SCRIPTING
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  prefix = args[1] .. "-" .. number .. "-"
  token, body, round = args[2], args[3], tonumber(args[4])
  count = 0
end

function request()
  count = count + 1
  local name = prefix .. (round > 0 and count % round or count)
  return wrk.format("POST", nil, {
    ["Host"] = wrk.headers["Host"],
    ["Authorization"] = "Bearer " .. token,
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = name,
  }, (body:gsub("NAME", name)))
end

dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "") .. "report.lua")
