#!/bin/sh
# Starts RabbitMQ in its container with our queues and one user for each process, and without the default user.
set -eu
mkdir -p /tmp/definitions
cp /definitions.json /tmp/definitions/10-queues.json
sh /users.sh >/tmp/definitions/20-users.json
exec docker-entrypoint.sh rabbitmq-server
