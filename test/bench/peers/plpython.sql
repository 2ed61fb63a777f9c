-- plpython.sql — what a user without pgllm writes in PL/Python: connections that are kept, one call
-- at a time, and a pool of threads for many.
--
-- Threads and connections stay in GD from one statement to the next, which is the fastest form of
-- this rival.  Bodies are built and answers read in the threads.  A call that fails gives NULL.

CREATE EXTENSION IF NOT EXISTS plpython3u;

CREATE FUNCTION peer_load() RETURNS void LANGUAGE plpython3u AS $$
import http.client
import json
import os
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit


class Target:
    def __init__(self, row):
        url = urlsplit(row["url"])
        self.name, self.form, self.model = row["target"], row["form"], row["model"]
        self.host, self.port, self.path = url.hostname, url.port, url.path
        self.headers = {"content-type": "application/json", **json.loads(row["headers"])}
        self.context = None
        if url.scheme == "https":
            self.context = ssl.create_default_context(cafile=bundle)

    def connect(self):
        if self.context:
            return http.client.HTTPSConnection(self.host, self.port, timeout=60,
                                               context=self.context)
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    def body(self, prompt):
        if self.form == "converse":
            body = {"messages": [{"role": "user", "content": [{"text": prompt}]}],
                    "inferenceConfig": {"maxTokens": 1024}}
        else:
            body = {"model": self.model, "max_tokens": 1024,
                    "messages": [{"role": "user", "content": prompt}]}
        return json.dumps(body).encode()

    def answer(self, data):
        reply = json.loads(data)
        if self.form == "converse":
            return reply["output"]["message"]["content"][0]["text"]
        return reply["choices"][0]["message"]["content"]


def target_of(name):
    if name not in targets:
        plan = plpy.prepare("SELECT * FROM peer_target WHERE target = $1", ["text"])
        targets[name] = Target(plpy.execute(plan, [name])[0])
    return targets[name]


def call(target, prompt):
    kept = connections.__dict__
    for _ in range(2):  # a kept connection may have been closed: then once more
        connection = kept.get(target.name)
        fresh = connection is None
        if fresh:
            connection = kept[target.name] = target.connect()
        try:
            connection.request("POST", target.path, target.body(prompt), target.headers)
            reply = connection.getresponse()
            data = reply.read()
            return target.answer(data) if reply.status == 200 else None
        except (OSError, http.client.HTTPException):
            connection.close()
            del kept[target.name]
            if fresh:
                return None
        except (KeyError, ValueError):
            return None


def pool(name, prompts, threads):
    target = target_of(name)
    if threads not in executors:
        executors[threads] = ThreadPoolExecutor(threads)
    return executors[threads].map(lambda prompt: call(target, prompt), prompts)


bundle = plpy.execute("SELECT current_setting('pgllm.ca_file') AS file")[0]["file"]
targets, executors, connections = {}, {}, threading.local()
GD["call"] = lambda name, prompt: call(target_of(name), prompt)
GD["pool"] = pool
$$;

CREATE FUNCTION peer_python(target text, prompt text, options jsonb DEFAULT '{}') RETURNS text
LANGUAGE plpython3u AS $$
if "call" not in GD:
    plpy.execute("SELECT peer_load()")
return GD["call"](target, prompt)
$$;

CREATE FUNCTION peer_pool(target text, prompts text[], threads int) RETURNS SETOF text
LANGUAGE plpython3u AS $$
if "pool" not in GD:
    plpy.execute("SELECT peer_load()")
return GD["pool"](target, prompts, threads)
$$;
