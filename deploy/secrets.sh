#!/bin/sh
# Makes the secrets of docker-compose.yml, one file each, those that are missing: `make secrets`. What is there stays.
#
# Compose mounts each into the containers that need it, and into no other. The folder is its owner's alone; the files in
# it may be read by the containers' users, whose numbers are not those of anybody here.
set -eu
folder=${SECRETS_DIR:-.secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

make_secret() {
    [ -s "$folder/$1" ] && return
    openssl rand -hex 32 >"$folder/$1.new"
    finish "$1"
}

finish() {
    chmod 444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "made $folder/$1"
}

for name in secret_key jwt_signing_key encryption_keys metrics_token redis_password; do
    make_secret "$name"
done
for process in owner web worker notifier relay intake cron readonly; do
    make_secret "${process}_database_password"
done
for process in worker notifier relay intake; do
    make_secret "${process}_rabbitmq_password"
done
# As Standard Webhooks wants it.
if [ ! -s "$folder/sandbox_webhook_secret" ]; then
    printf 'whsec_%s\n' "$(openssl rand -base64 32)" >"$folder/sandbox_webhook_secret.new"
    finish sandbox_webhook_secret
fi
