"""Servers of strangers, on this machine: raw sockets that do with a request whatever a test has them do."""

import contextlib
import queue
import socket
import ssl
import struct
import threading
from datetime import UTC, datetime, timedelta

import httpcore2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answering(answer):
    """Behaviour: these bytes, then the end."""
    return lambda connection, _: connection.sendall(answer)


def reset(connection, stranger):
    """Behaviour: RST instead of an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Stranger:
    """Accepts connections, reads one request of each, and behaves."""

    def __init__(self, behave=None, *, context=None):
        self.behave, self.context = behave or answering(OK), context
        self.requests = queue.SimpleQueue()
        self.connections = 0
        self.arrived = threading.Condition()
        self.released = threading.Event()
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    def accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                thread = threading.Thread(target=self.serve, args=(connection,), daemon=True)
                self.threads.append(thread)
                with self.arrived:
                    self.connections += 1
                    self.arrived.notify_all()
                thread.start()

    def serve(self, connection):
        with contextlib.suppress(OSError):
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
                self.open.append(connection)
            self.requests.put(read_request(connection))
            self.behave(connection, self)
        connection.close()

    def wait_for(self, connections):
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.connections >= connections, timeout=20)

    def close(self):
        self.released.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


def read_request(connection):
    """Head and body of a request that gives its length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += receive(connection)
    return head, body


def receive(connection):
    if data := connection.recv(65536):
        return data
    raise ConnectionError


class Detour(httpcore2.AsyncNetworkBackend):
    """The internet as a test sees it: notes where connections would go, and leads them all to one port here."""

    def __init__(self, port, *, unreachable=()):
        self.port, self.unreachable, self.asked = port, unreachable, []

    async def connect_tcp(self, host, port, timeout=None, *others):  # noqa: ASYNC109 -- the interface's
        self.asked.append((host, port))
        if host in self.unreachable:
            raise httpcore2.ConnectError(OSError("unreachable"))
        return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", self.port, timeout)


class Names:
    """A resolver: names and their addresses; the last entry stays. Counts the questions."""

    def __init__(self, *answers):
        self.answers, self.questions = list(answers), []

    async def __call__(self, host, port):
        self.questions.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Authority:
    """A certification authority of the test's own."""

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
        self.certificate = self.sign(self.name, self.key, None, days=30)

    def sign(self, name, key, host, *, days, issuer=None):
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer or self.name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        end = now + timedelta(days=days)
        builder = builder.not_valid_before(min(now, end) - timedelta(days=1)).not_valid_after(end)
        builder = builder.add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        if host:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        else:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return builder.sign(key if issuer else self.key, hashes.SHA256())

    def server(self, host, *, days=30, self_signed=False):
        """A server's context, with a certificate for a host."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self.sign(name, key, host, days=days, issuer=name if self_signed else None)
        pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = self.folder / f"{certificate.serial_number}.pem"
        file.write_bytes(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def client(self):
        """A client's context that trusts this authority only."""
        return ssl.create_default_context(cadata=self.certificate.public_bytes(serialization.Encoding.PEM).decode())
