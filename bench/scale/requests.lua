-- For wrk: GET /me by the sessions of a file that `seed.py --requests` printed, in turn.
local requests, next_one = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    local secret, address, agent = line:match("^(.-)\t(.-)\t(.*)$")
    local headers = { cookie = "portcullis=" .. secret, ["x-forwarded-for"] = address, ["user-agent"] = agent }
    requests[#requests + 1] = wrk.format("GET", "/me", headers)
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end
