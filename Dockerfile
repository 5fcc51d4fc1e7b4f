# One image for every process; the command chooses which one a container is:
#
#   web      (the default, see CMD)
#   relay    python manage.py relay
#   worker   python manage.py worker
#   migrate  python manage.py migrate --no-input
#   sandbox  python -m sandbox --host 0.0.0.0 --port 8200 --data /data
#
# Health differs by process, so the checks stand in docker-compose.yml and not here.

# Python 3.11.16. The digest decides what is built on; the tag is for the reader. docs/deployment.md says how to renew it.
FROM python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b AS python
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/venv/bin:$PATH


FROM python AS builder
COPY requirements.txt /
# Wheels only: no package runs code of its own here, and no compiler is needed. Each must have a hash that
# requirements.txt lists. The environment gets no pip, because nothing shall be installed into a running container.
RUN --mount=type=cache,target=/pip-cache \
    python -m venv --without-pip /venv \
    && /usr/local/bin/python -m pip --cache-dir /pip-cache --python /venv/bin/python install --require-hashes --only-binary :all: --requirement /requirements.txt


FROM python AS final
# The uid is fixed and spoken by number below, so that Kubernetes can prove `runAsNonRoot` and volumes keep
# their owner. /data belongs to it because a new named volume takes the owner of the folder it is mounted on.
RUN groupadd --gid 10001 payments \
    && useradd --uid 10001 --gid payments --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin payments \
    && install --directory --owner=payments --group=payments --mode=0750 /data
COPY --from=builder /venv /venv
WORKDIR /app
# .dockerignore lets in what the processes need and nothing else. It stays root's: a process cannot change its code.
COPY . .
RUN pybabel --quiet compile --directory locale --domain django
# The settings insist on their variables. These values live for this one step and reach no server; ENVIRONMENT is
# the real one, because only the production settings write compressed files with a hash in their names.
RUN ENVIRONMENT=production \
    SECRET_KEY=only-for-collecting-static-files-at-build-time \
    JWT_SIGNING_KEY=only-for-collecting-static-files-and-nothing-else \
    ENCRYPTION_KEYS=only-for-collecting-static-files-and-never-for-encrypting \
    ALLOWED_HOSTS=build.invalid \
    DATABASE_URL=postgres://build@build.invalid/build \
    RABBITMQ_URL=amqp://build.invalid \
    python manage.py collectstatic --no-input --verbosity 0 \
    && python -m compileall -q .
USER 10001:10001
EXPOSE 8000
# The control socket wants a home folder, and nobody manages gunicorn from inside the container.
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py", "--no-control-socket", "--bind", "0.0.0.0:8000", "config.asgi"]
