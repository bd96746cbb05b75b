-- Makes each request a connection sends differ from the one before: 4096 targets in turn.
local requests = {}
local turn = 0

function init()
  for i = 1, 4096 do
    requests[i] = wrk.format("GET", "/" .. i .. "?n=" .. (i * 7919) % 4096)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
