"""Who takes part: the lines that can be had here, and the gateways that they need."""
import gateways
import lines
import processes
from harness import Session

BODY = {"max_tokens": gateways.MAX_TOKENS,
        "messages": [{"role": "user", "content": "x" * lines.PROMPT_BYTES}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "x" * lines.PROMPT_BYTES}]}],
            "inferenceConfig": {"maxTokens": gateways.MAX_TOKENS}}


def limits(missing):
    found = [lines.BareLine("bare", "limit: libcurl multi + epoll, SigV4, JSON (bare.c)")]
    if "wrk" not in missing:
        found.append(lines.WrkLine("wrk", "limit: wrk, the same bytes", gateways.direct_url,
                                   lambda upstream: gateways.direct_headers(),
                                   lambda upstream: CONVERSE, kind="limit"))
    return found


def direct_rivals(missing):
    """Without a gateway: from the server's own languages."""
    found = []
    if "http" not in missing:
        found.append(lines.http_line("http", "pgsql-http, kept connection"))
    if "plpython" not in missing:
        found += [lines.python_line("python", "PL/Python, http.client kept"),
                  lines.pool_line("pool", "PL/Python, pool of threads")]
    return found


def litellm_rivals(missing, gateway):
    found = []
    if "plpython" not in missing:
        found.append(lines.pool_line("litellm_pool", "LiteLLM proxy ← PL/Python pool", "litellm_",
                                     gateway=gateway, cold=False))
    if "http" not in missing:
        found.append(lines.http_line("litellm_http", "LiteLLM proxy ← pgsql-http", "litellm_",
                                     gateway=gateway, cold=False))
    found += [lines.ClientLine("litellm_client", "LiteLLM proxy ← openai package, asyncio", "openai",
                               gateway=gateway),
              lines.ClientLine("litellm_sdk", "LiteLLM library, asyncio, no proxy", "sdk")]
    return found


def portkey_rivals(missing, gateway):
    found = []
    if "plpython" not in missing:
        found.append(lines.pool_line("portkey_pool", "Portkey ← PL/Python pool", "portkey_",
                                     gateway=gateway, cold=False))
    if "wrk" not in missing:
        found.append(lines.WrkLine("portkey_wrk", "Portkey ← wrk", lambda upstream: gateway.url(),
                                   gateway.headers,
                                   lambda upstream: {**BODY, "model": gateways.MODEL},
                                   gateway=gateway))
    return found


def declare_targets(session, missing, prefix, upstreams, url, headers, form, model):
    """Let the rivals in SQL know an endpoint under `prefix` + the upstream's name."""
    for upstream in upstreams:
        given = (prefix + upstream, url(upstream), headers(upstream), form, model(upstream))
        lines.make_target(session, *given)
        if "http" not in missing:
            lines.make_http_function(session, *given)


def start_gateway(name, make, missing):
    """The gateway, or None with the reason in `missing`."""
    if name in missing:
        return None
    try:
        return make()
    except (OSError, RuntimeError) as error:
        missing[name] = str(error)
        print(f"left out: {name}: {error}", flush=True)
        return None


def all_lines(missing, with_gateways=True):
    ours = lines.pgllm_lines()
    lines.find_out_what_is_concurrent(ours)
    found = [*limits(missing), *ours, *direct_rivals(missing)]
    with Session() as session:
        declare_targets(session, missing, "", ("fast", "slow", "tls_slow"), gateways.direct_url,
                        lambda upstream: gateways.direct_headers(), "converse", lambda upstream: "")
        if not with_gateways:
            return found
        litellm = start_gateway("litellm", gateways.litellm_for_speed, missing)
        if litellm:
            declare_targets(session, missing, "litellm_", ("fast", "slow"),
                            lambda upstream: litellm.url(), litellm.headers, "openai",
                            lambda upstream: upstream)
            found += litellm_rivals(missing, litellm)
        portkey = start_gateway("portkey", gateways.Portkey, missing)
        if portkey:
            declare_targets(session, missing, "portkey_", ("fast", "slow"),
                            lambda upstream: portkey.url(), portkey.headers, "openai",
                            lambda upstream: gateways.MODEL)
            found += portkey_rivals(missing, portkey)
    return found


def stop_gateways():
    processes.stop_all()
