-- post.lua — the request that wrk sends: BODY and HEADERS (one per line) of the environment.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
for line in os.getenv("HEADERS"):gmatch("[^\n]+") do
	local name, value = line:match("^([^:]+): (.*)$")
	wrk.headers[name] = value
end
