"""Minimises an objective that lives behind HTTP: JSON goes there, a number comes back.

    python examples/http_service.py

The service is one of this file, on the loopback interface, and a bad one: each 5th request fails,
and some hang. Requests are made again (``retries``), each may take half a second, and a whole round
``timeout`` seconds: what is not there by then is missing.
"""

import argparse
import contextlib
import http.server
import itertools
import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import optax

import zovh_jax as zo

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # as the service is here
requests = itertools.count(1)
ending = threading.Event()


class Service(http.server.BaseHTTPRequestHandler):
    """Answers {"x": […]} with {"value": …}."""

    def do_POST(self):
        """One request."""
        number = next(requests)
        if number % 61 == 0:
            ending.wait()  # it hangs
            return
        if number % 5 == 0:
            self.send_error(503)
            return
        x = np.asarray(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["x"])
        value = np.sum((x - np.linspace(-1, 1, x.size)) ** 2) + np.sum(np.cos(3 * x)) / 10
        body = json.dumps({"value": value}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Says nothing."""


@contextlib.contextmanager
def service():
    """The address of a service that runs in threads, as long as it is needed."""
    ending.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            ending.set()
            server.shutdown()


def main(argv=None):
    """Runs until the queries are spent, and returns the result of `zo.minimize`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=480)
    parser.add_argument("--retries", type=int, default=4)
    options = parser.parse_args(argv)

    def ask(params):
        body = json.dumps({"x": params["x"].tolist()}).encode()
        with DIRECT.open(urllib.request.Request(url, body), timeout=0.5) as answer:
            return json.load(answer)["value"]

    optimizer = optax.chain(zo.zo_gradient(8, 0.1, key=jax.random.key(0)), optax.adam(0.2))
    with service() as url, ThreadPoolExecutor(8) as pool:
        result = zo.minimize(
            ask,
            {"x": np.full(6, 3.0)},
            optimizer,
            max_queries=options.queries,
            executor=pool,
            retries=options.retries,
            timeout=20,
        )
    print(f"value {result.best_value:.3f} after {result.num_queries} queries")
    print(f"{next(requests) - 1} requests; {result.num_errors} queries failed after all")
    return result


if __name__ == "__main__":
    main()
