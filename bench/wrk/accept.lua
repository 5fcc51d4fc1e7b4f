-- POST payments: arguments are prefix, token, and how many keys to go round in (0: each request has its own).
-- https://github.com/wg/wrk/blob/master/SCRIPTING
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  prefix = args[1] .. "-" .. number .. "-"
  token, round = args[2], tonumber(args[3])
  count = 0
end

function request()
  count = count + 1
  local index = round > 0 and count % round or count
  local name = prefix .. index
  return wrk.format("POST", nil, {
    ["Host"] = wrk.headers["Host"],
    ["Authorization"] = "Bearer " .. token,
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = name,
  }, '{"amount": "10.00", "currency": "EUR", "order_id": "' .. name .. '", "user_id": "customer-' .. index % 1000
    .. '", "description": "A measured payment", "metadata": {"basket": "b-17"}, "payment_method": "pm_ok"}')
end

dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "") .. "report.lua")
