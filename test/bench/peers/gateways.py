"""The gateways: how LiteLLM and Portkey are started and asked.

Both speak OpenAI's chat format to their clients and Bedrock's Converse, signed, to the upstream.  Each
starts as its own documentation recommends for speed; they listen on loopback only.
"""
import json
import os
import secrets

import harness
from harness import port
from processes import Server, free_port

HERE = os.path.dirname(os.path.abspath(__file__))
LITELLM_HOME = os.environ["PEERS_LITELLM"]
PORTKEY_HOME = os.environ["PEERS_PORTKEY"]
MODEL = "amazon.nova-lite-v1:0"  # one that they know: an unknown one costs LiteLLM more
ACCESS_KEY = "AKIABENCHMARK0000001"
SECRET_KEY = "benchmark-secret-access-key-of-40-letters"
SESSION_TOKEN = "t" * 880
MAX_TOKENS = 1024


def deployment(name, endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY, model=MODEL,
               token=None, **limits):
    """One entry of LiteLLM's model_list."""
    params = {"model": "bedrock/converse/" + model, "aws_access_key_id": access_key,
              "aws_secret_access_key": secret_key, "aws_region_name": "us-east-1",
              "aws_bedrock_runtime_endpoint": endpoint, **limits}
    if token:
        params["aws_session_token"] = token
    return {"model_name": name, "litellm_params": params}


class LiteLLM(Server):
    """LiteLLM's proxy.  Without a database: models, limits and routing are in its file."""

    master_key = "sk-" + secrets.token_hex(32)

    def __init__(self, name, deployments, router=None, workers=1, settings=None):
        port_number = free_port()
        path = f"{harness.WORK}/out/{name}.yaml"
        with open(path, "w") as file:  # JSON is YAML
            json.dump({"model_list": deployments, "router_settings": router or {},
                       "litellm_settings": {"telemetry": False, "request_timeout": 60,
                                            **(settings or {})}}, file, indent=1)
        super().__init__(
            name, [LITELLM_HOME + "/bin/litellm", "--config", path, "--host", "127.0.0.1",
                   "--port", str(port_number), "--num_workers", str(workers),
                   # on a busy machine a worker needs longer to come up than the supervisor waits
                   "--timeout_worker_healthcheck", "120"],
            port_number, "/health/liveliness",
            {"LITELLM_MASTER_KEY": self.master_key, "LITELLM_LOCAL_MODEL_COST_MAP": "True",
             "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "HOME": harness.WORK + "/out",
             "PYTHONWARNINGS": "ignore"})

    def headers(self, _upstream=None):
        return {"authorization": "Bearer " + self.master_key}

    def url(self):
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"


def litellm_for_speed():
    """One worker per core, no retries, nothing that is logged."""
    return LiteLLM("litellm", [deployment(name, f"http://127.0.0.1:{port(name)}",
                                          token=SESSION_TOKEN) for name in ("fast", "slow")],
                   {"num_retries": 0}, workers=os.cpu_count(), settings={"num_retries": 0})


class Portkey(Server):
    """Portkey's gateway; each request says where it goes and how it is signed."""

    def __init__(self):
        port_number = free_port()
        script = PORTKEY_HOME + "/node_modules/@portkey-ai/gateway/build/start-server.js"
        super().__init__("portkey", ["node", "--require", HERE + "/loopback.cjs", script,
                                     f"--port={port_number}", "--headless"],
                         port_number, "/", {"HOME": harness.WORK + "/out", "NODE_ENV": "production",
                                            "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"})

    def headers(self, upstream):
        return {"x-portkey-provider": "bedrock", "x-portkey-aws-access-key-id": ACCESS_KEY,
                "x-portkey-aws-secret-access-key": SECRET_KEY,
                "x-portkey-aws-session-token": SESSION_TOKEN,
                "x-portkey-aws-region": "us-east-1",
                "x-portkey-custom-host": f"http://127.0.0.1:{port(upstream)}"}

    def url(self):
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"


# ---- what a client without a gateway sends ----

def direct_url(upstream):
    scheme = "https" if upstream.startswith("tls") else "http"
    return f"{scheme}://127.0.0.1:{port(upstream)}/model/bench.model-v1%3A0/converse"


def direct_headers():
    """As long as a signature: these rivals do not sign, which saves them some work."""
    return {"accept": "application/json", "x-amz-date": "20260101T000000Z",
            "x-amz-security-token": SESSION_TOKEN,
            "authorization": "AWS4-HMAC-SHA256 Credential=AKIABENCHMARK0000001/20260101/us-east-1/"
            "bedrock/aws4_request, SignedHeaders=accept;content-type;host;x-amz-date;"
            "x-amz-security-token, Signature=" + "0" * 64}
