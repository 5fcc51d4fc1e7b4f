-- GET paths in turn: arguments are token, and the paths.
function init(args)
  token, paths, count = args[1], {}, 0
  for index = 2, #args do
    paths[#paths + 1] = args[index]
  end
end

function request()
  count = count + 1
  return wrk.format("GET", paths[count % #paths + 1], {
    ["Host"] = wrk.headers["Host"],
    ["Authorization"] = "Bearer " .. token,
  })
end

dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "") .. "report.lua")
