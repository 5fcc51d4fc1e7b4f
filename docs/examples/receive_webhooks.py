"""Receive webhooks and print them: `WEBHOOK_SECRET=whsec_… python receive_webhooks.py 8080`."""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
seen = set()  # in earnest: a unique column of your database, filled in the transaction of the effect


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))  # the bytes as they came, not JSON read and written
        try:
            event = webhook.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            self.answer(400)
            return
        if self.headers["webhook-id"] not in seen:  # at least once: the same event may come again
            seen.add(self.headers["webhook-id"])
            print(event["type"], event["data"].get("id"), event["data"].get("amount"), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()


server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print("listening on port", server.server_port, flush=True)
server.serve_forever()
