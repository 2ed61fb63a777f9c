"""The client that a user of LiteLLM writes, run by the Python of LiteLLM's own environment.

    client.py openai|sdk JSON     many coroutines that ask one after the other

`openai` asks the proxy through the openai package; `sdk` is litellm.acompletion, which signs and asks
the upstream itself, without a proxy.  JSON: url, key, model, calls, warm, inflight, prompt, max_tokens,
parameters.  Prints what bare prints: calls, failed, wall_us, cpu_us, p50_us, p99_us.
"""
import asyncio
import json
import resource
import sys
import time


def openai_asker(task):
    import openai
    import httpx
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    client = openai.AsyncOpenAI(base_url=task["url"], api_key=task["key"], max_retries=0, timeout=60,
                                http_client=openai.DefaultAsyncHttpxClient(limits=limits))

    async def ask(messages):
        return await client.chat.completions.create(model=task["model"], messages=messages,
                                                    max_tokens=task["max_tokens"])
    return ask


def sdk_asker(task):
    import litellm
    litellm.suppress_debug_info = True

    async def ask(messages):
        return await litellm.acompletion(model=task["model"], messages=messages, timeout=60,
                                         max_tokens=task["max_tokens"], num_retries=0,
                                         **task["parameters"])
    return ask


async def run(ask, task, calls, latencies):
    left = iter(range(calls))
    failed = 0

    async def worker():
        nonlocal failed
        for number in left:
            messages = [{"role": "user", "content": str(number).rjust(task["prompt"], "x")}]
            began = time.perf_counter()
            try:
                answer = await ask(messages)
                failed += not answer.choices[0].message.content
            except Exception as error:  # any failure of a rival is a failed call
                if not failed:
                    print(f"{type(error).__name__}: {error}", file=sys.stderr)
                failed += 1
            latencies.append((time.perf_counter() - began) * 1e6)
    await asyncio.gather(*(worker() for _ in range(min(calls, task["inflight"]))))
    return failed


def cpu_us():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (usage.ru_utime + usage.ru_stime) * 1e6


async def main():
    task = json.loads(sys.argv[2])
    ask = {"openai": openai_asker, "sdk": sdk_asker}[sys.argv[1]](task)
    await run(ask, task, task["warm"], [])
    latencies = []
    began, cpu = time.perf_counter(), cpu_us()
    failed = await run(ask, task, task["calls"], latencies)
    wall = (time.perf_counter() - began) * 1e6
    latencies.sort()
    print(json.dumps({"calls": task["calls"], "failed": failed, "wall_us": wall,
                      "cpu_us": cpu_us() - cpu, "p50_us": latencies[len(latencies) // 2],
                      "p99_us": latencies[len(latencies) * 99 // 100]}))


if __name__ == "__main__":
    try:
        import uvloop
        uvloop.install()
    except ImportError:
        pass
    asyncio.run(main())
