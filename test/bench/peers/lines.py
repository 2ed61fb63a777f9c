"""The lines of the table: every way to get the same rows answered, and how each is measured.

A line answers `rows` rows over an upstream with so many calls in flight (sample), makes single calls
one after the other (serial), and shows its memory.  Whoever cannot keep calls in flight is `concurrent
= False`.  CPU is `caller` (the backend, or the client program) and `all` (with the gateway, or the
writer of pgllm's ledger, on top).
"""
import json
import os
import time
from dataclasses import dataclass

import gateways
import harness
import processes
from harness import Session, port, watch

PROMPT_BYTES = 850
PROMPT = f"repeat('x', {PROMPT_BYTES})"
ANSWERS = harness.WORK + "/out/answers"
HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass
class Sample:
    """What one measured statement, or run of a client, came to."""
    rows: int
    failed: int
    wall_us: float
    caller_us: float  # CPU
    all_us: float
    memory_kb: float = 0

    @property
    def rate(self):
        return (self.rows - self.failed) / self.wall_us * 1e6


class Line:
    concurrent = True
    kind = "rival"  # or limit, or ours
    gateway = None
    cold = False    # can it be asked over TLS without any connection?

    def __init__(self, key, title):
        self.key = key
        self.title = title

    def begin(self):
        """Before each round: sessions that have nothing yet."""

    def end(self):
        """After it."""

    def gateway_pids(self):
        return self.gateway.pids() if self.gateway else []


# ---- lines in SQL ----

class SqlLine(Line):
    """One statement in one backend, timed by psql, as the client sees it.

    statement(upstream, in_flight, rows) is its text; settings(in_flight) come before it; call is an
    SQL function like llm_invoke for single calls.
    """
    cold = True

    def __init__(self, key, title, statement, settings=lambda in_flight: "", call=None,
                 prepare="", **attributes):
        super().__init__(key, title)
        self.statement = statement
        self.settings = settings
        self.call = call
        self.prepare = prepare
        self.session = None
        self.__dict__.update(attributes)

    def begin(self):
        self.session = Session()
        self.session.run("SET statement_timeout = '300s'")
        if self.prepare:
            self.session.run(self.prepare)

    def end(self):
        if self.session:
            self.session.close()
        self.session = None

    def helpers(self):
        return self.gateway_pids()

    def settled(self):
        """Let the helpers finish what this statement left to them."""

    def sample(self, upstream, in_flight, rows, memory=False):
        session = self.session
        settings = self.settings(in_flight)
        if settings:
            session.run(settings)
        session.run("TRUNCATE peer_answer")
        if os.path.exists(ANSWERS):
            os.unlink(ANSWERS)
        helpers = self.helpers()
        helpers_before = processes.cpu_us(helpers)
        before = session.numbers("SELECT bench_cpu()")[0]
        session.send(f"\\timing on\n\\o {ANSWERS}\n{self.statement(upstream, in_flight, rows)};\n"
                     "\\o\n\\timing off\nSELECT bench_cpu()")
        watched = {"kb": 0}
        if memory:
            watched = self.watch_memory([session.pid, *helpers])
        timing, cpu = self.receive_timed()
        watched["stop"] = True
        self.settled()
        helpers_us = processes.cpu_us(helpers) - helpers_before
        caller_us = float(cpu) - before
        return Sample(rows, rows - self.count_answers(), timing, caller_us,
                      caller_us + helpers_us, watched["kb"])

    def receive_timed(self):
        """The microseconds that psql reports, and the value that follows."""
        words = self.session.receive()
        timings = [row[0] for row in words if row[0].startswith("Time:")]
        return float(timings[0].split()[1]) * 1000, words[-1][0]

    def watch_memory(self, pids):
        peak = {"kb": 0, "stop": False}

        def look():
            if not peak["stop"]:
                peak["kb"] = max(peak["kb"], processes.pss_kb(pids))
        watch(look, 1.0)
        return peak

    def count_answers(self):
        """Rows with an answer in their last column, in the file or in the table."""
        with open(ANSWERS) as file:
            answered = sum(1 for line in file if line.rstrip("\n").rpartition("\t")[2])
        return answered or int(self.session.run("SELECT count(answer) FROM peer_answer")[0][0])

    def serial(self, calls):
        """p50, p99 of single calls at 0 ms, µs, without the executor around them."""
        if not self.call:
            return None
        function, tenant = self.call("fast")
        values = self.session.numbers(
            f"SELECT * FROM bench_calls('{function}(text,text,jsonb)', '{tenant}', {PROMPT}, {calls})")
        return values[0], values[1]


class PgllmLine(SqlLine):
    """pgllm: its ledger's writer works for the call as well."""
    kind = "ours"

    def __init__(self, key, title, statement, **attributes):
        super().__init__(key, title, statement,
                         settings=lambda n: f"SET pgllm.max_concurrency = {n}",
                         call=lambda upstream: ("llm_invoke", upstream), **attributes)

    def helpers(self):
        rows = self.session.run("SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'pgllm'")
        return [int(row[0]) for row in rows]

    def settled(self):
        self.session.run("SELECT llm_flush()")


def pgllm_lines():
    first = "FROM peer_row WHERE id <= {rows}"
    return [
        PgllmLine("select", "pgllm, SELECT id, llm_invoke(…) FROM rows", lambda u, n, rows:
                  f"SELECT id, llm_invoke('{u}', prompt) {first.format(rows=rows)}"),
        PgllmLine("insert", "pgllm, INSERT … SELECT llm_invoke(…)", lambda u, n, rows:
                  f"INSERT INTO peer_answer SELECT id, llm_invoke('{u}', prompt) "
                  f"{first.format(rows=rows)}"),
        PgllmLine("many", "pgllm, llm_invoke_many(…)", lambda u, n, rows:
                  f"SELECT m.ord, (m.result).response FROM llm_invoke_many('{u}', "
                  f"ARRAY(SELECT prompt {first.format(rows=rows)} ORDER BY id)) AS m"),
    ]


def find_out_what_is_concurrent(lines):
    """A statement that makes its calls one by one cannot be asked for thousands of rows."""
    for line in lines:
        if line.kind == "ours":
            line.begin()
            sample = line.sample("slow", 8, 8)
            line.concurrent = sample.wall_us < 8 * 0.2e6 / 2
            line.end()


# ---- rivals in SQL ----

def literal(text):
    return "'" + text.replace("'", "''") + "'"


def make_http_function(session, target, url, headers, form, model=""):
    """What a user of pgsql-http writes: one function for one endpoint."""
    path = {"converse": "{output,message,content,0,text}",
            "openai": "{choices,0,message,content}"}[form]
    fields = ", ".join(f"http_header({literal(name)}, {literal(value)})"
                       for name, value in headers.items())
    session.run(f"""CREATE FUNCTION peer_http_{target}(target text, prompt text, options jsonb DEFAULT '{{}}')
        RETURNS text LANGUAGE sql VOLATILE AS $$
        SELECT CASE WHEN h.status = 200 THEN h.content::jsonb #>> '{path}' END
        FROM http(('POST', {literal(url)}, ARRAY[{fields}]::http_header[], 'application/json',
            peer_body('{form}', {literal(model)}, prompt))::http_request) AS h $$""")


def make_target(session, target, url, headers, form, model=""):
    session.run("INSERT INTO peer_target VALUES (" + ", ".join(
        literal(value) for value in (target, url, json.dumps(headers), form, model)) + ")")


# The library must be loaded first: a setting of keep-alive from before is lost.
HTTP_PREPARE = ("LOAD 'http'; SET http.curlopt_tcp_keepalive = '1'; "
                "SET http.curlopt_timeout_ms = '60000'; "
                f"SET http.curlopt_cainfo = '{harness.WORK}/bundle.pem'")


def http_line(key, title, prefix="", **attributes):
    return SqlLine(key, title, lambda u, n, rows:
                   f"SELECT id, peer_http_{prefix}{u}('', prompt) FROM peer_row WHERE id <= {rows}",
                   call=lambda u: (f"peer_http_{prefix}{u}", ""), prepare=HTTP_PREPARE,
                   concurrent=False, **attributes)


def python_line(key, title, prefix="", **attributes):
    return SqlLine(key, title, lambda u, n, rows:
                   f"SELECT id, peer_python('{prefix}{u}', prompt) FROM peer_row WHERE id <= {rows}",
                   call=lambda u: ("peer_python", prefix + u), concurrent=False, **attributes)


def pool_line(key, title, prefix="", **attributes):
    return SqlLine(key, title, lambda u, n, rows:
                   f"SELECT * FROM peer_pool('{prefix}{u}', ARRAY(SELECT prompt FROM peer_row "
                   f"WHERE id <= {rows} ORDER BY id), {n})", **attributes)


# ---- lines that are programs ----

class BareLine(Line):
    kind = "limit"
    cold = True

    def sample(self, upstream, in_flight, rows, memory=False, warm=None):
        tls = {"ca": harness.WORK + "/bundle.pem", "http2": True} if upstream.startswith("tls") else {}
        command = [harness.WORK + "/bare", "--url", gateways.direct_url(upstream).split("/model")[0],
                   "--sign", "--scan", "--calls", str(rows), "--inflight", str(in_flight),
                   "--warm", str(in_flight if warm is None else warm)]
        for name, value in tls.items():
            command += ["--" + name] + ([] if value is True else [str(value)])
        done = processes.Finished(command)
        result = json.loads(done.output)
        return Sample(rows, result["failed"], result["wall_us"], result["cpu_us"],
                      result["cpu_us"], done.rss_kb)

    def serial(self, calls):
        """With signature and reading of the reply, as `direct` is without."""
        result = harness.bare(f"http://127.0.0.1:{port('fast')}", calls=calls, warm=50, sign=True,
                              scan=True)
        return result["p50_us"], result["p99_us"]


def direct_latency(calls):
    """The call that all others add to: plain libcurl, one kept connection."""
    result = harness.bare(f"http://127.0.0.1:{port('fast')}", calls=calls, warm=50)
    return result["p50_us"], result["p99_us"]


class WrkLine(Line):
    """wrk, which writes the same bytes again and again: to the upstream, or to a gateway."""

    def __init__(self, key, title, url, headers, body, **attributes):
        super().__init__(key, title)
        self.url, self.headers, self.body = url, headers, body
        self.__dict__.update(attributes)

    def wrk(self, upstream, connections, seconds):
        headers = {"content-type": "application/json", **self.headers(upstream)}
        return processes.Finished(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency",
             "-s", HERE + "/post.lua", self.url(upstream)],
            {"BODY": json.dumps(self.body(upstream)),
             "HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items())})

    def sample(self, upstream, in_flight, rows, memory=False):
        helpers = self.gateway_pids()
        before = processes.cpu_us(helpers)
        # through a gateway the first answers of a thousand connections take their time
        done = self.wrk(upstream, in_flight, (2 if harness.QUICK else 4)
                        + (in_flight // 100 if self.gateway else 0))
        helpers_us = processes.cpu_us(helpers) - before
        found = read_wrk(done.output)
        if not found.get("requests"):
            raise RuntimeError("no answer in time")
        kb = done.rss_kb + processes.pss_kb(helpers)
        return Sample(found["requests"], found["failed"], found["seconds"] * 1e6, done.cpu_us,
                      done.cpu_us + helpers_us, kb)

    def serial(self, calls):
        self.wrk("fast", 1, 1)  # to warm up what has just started
        found = read_wrk(self.wrk("fast", 1, 2).output)
        return found["p50"], found["p99"]


def read_wrk(output):
    """The figures in wrk's report; times in µs."""
    found = {"failed": 0}
    units = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}

    def duration(text):
        number = text.rstrip("usm")
        return float(number) * units[text[len(number):]]
    for line in output.splitlines():
        words = line.split()
        if line.strip().startswith(("50%", "99%")):
            found["p" + words[0][:2]] = duration(words[1])
        elif "requests in" in line:
            found["requests"] = int(words[0])
            found["seconds"] = duration(words[3].rstrip(",")) / 1e6
        elif "Non-2xx" in line:
            found["failed"] += int(words[-1])
        elif "Socket errors" in line:
            found["failed"] += sum(int(word.rstrip(",")) for word in words if word.rstrip(",").isdigit())
    return found


class ClientLine(Line):
    """client.py: the openai package against the proxy, or LiteLLM's own library alone."""

    def __init__(self, key, title, mode, **attributes):
        super().__init__(key, title)
        self.mode = mode
        self.__dict__.update(attributes)

    def run(self, upstream, in_flight, rows, warm):
        task = {"calls": rows, "warm": warm, "inflight": in_flight, "prompt": PROMPT_BYTES,
                "max_tokens": gateways.MAX_TOKENS, "key": gateways.LiteLLM.master_key}
        if self.mode == "openai":
            task |= {"url": self.gateway.url().removesuffix("/chat/completions"), "model": upstream}
        else:
            entry = gateways.deployment("", f"http://127.0.0.1:{port(upstream)}",
                                        token=gateways.SESSION_TOKEN)["litellm_params"]
            task |= {"model": entry.pop("model"), "parameters": entry}
        done = processes.Finished([gateways.LITELLM_HOME + "/bin/python", HERE + "/client.py", self.mode,
                                   json.dumps(task)],
                                  {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR",
                                   "HOME": harness.WORK + "/out"})
        if done.status != 0:
            raise RuntimeError("client.py failed: see program.log")
        return json.loads(done.output.splitlines()[-1]), done.rss_kb

    def sample(self, upstream, in_flight, rows, memory=False):
        helpers = self.gateway_pids()
        before = processes.cpu_us(helpers)
        result, rss_kb = self.run(upstream, in_flight, rows, in_flight)
        # the helpers' CPU for warming up is taken out in proportion
        helpers_us = (processes.cpu_us(helpers) - before) * rows / (rows + in_flight)
        return Sample(rows, result["failed"], result["wall_us"], result["cpu_us"],
                      result["cpu_us"] + helpers_us, rss_kb + processes.pss_kb(helpers))

    def serial(self, calls):
        result, _ = self.run("fast", 1, calls, 20)
        return result["p50_us"], result["p99_us"]
