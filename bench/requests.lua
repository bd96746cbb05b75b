-- What wrk sends, by the name behind `--`.  Each request of a connection differs from the one
-- before: 4096 targets in turn.
local requests = {}
local turn = 0

local browser = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    .. "Chrome/120.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
  ["Accept-Encoding"] = "gzip, deflate, br",
  ["Accept-Language"] = "en-US,en;q=0.9",
  ["Cache-Control"] = "max-age=0",
  ["Connection"] = "keep-alive",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "none",
  ["Upgrade-Insecure-Requests"] = "1",
}

local function target(i)
  return "/" .. i .. "?n=" .. (i * 7919) % 4096
end

local kinds = {}

function kinds.vary(i)
  return wrk.format("GET", target(i))
end

function kinds.browser(i)
  browser["Cookie"] = "session=" .. (i * 104729) % 1000003 .. "; theme=dark"
  return wrk.format("GET", target(i), browser)
end

function kinds.post(i)
  local fields = { ["Content-Type"] = "text/plain" }
  return wrk.format("POST", target(i), fields, string.rep(string.format("%04x", i), 1024))
end

function kinds.pipeline(i)
  local sixteen = {}
  for n = 1, 16 do
    sixteen[n] = wrk.format("GET", target((i + n) % 4096))
  end
  return table.concat(sixteen)
end

function kinds.routes(i)
  return wrk.format("GET", "/route/" .. i % 1000)
end

function init(arguments)
  local kind = kinds[arguments[1]]
  for i = 1, 4096 do
    requests[i] = kind(i)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
