#!/bin/sh
# Prints a definitions file with one RabbitMQ user for each process. docs/rabbitmq.md has the same table, and says why.
#
# Passwords are read from `NAME_rabbitmq_password` in the folder that is named, and printed as RabbitMQ keeps them: the
# base64 of a random salt and the SHA-256 of salt and password. https://www.rabbitmq.com/docs/passwords
set -eu
secrets=${1:-/run/secrets}

# The bytes of hexadecimal digits.
bytes() {
    rest=$1
    while [ -n "$rest" ]; do
        tail=${rest#??}
        printf '%b' "\\0$(printf '%o' "0x${rest%"$tail"}")"
        rest=$tail
    done
}

hash_of() {
    salt=$(openssl rand -hex 4)
    digest=$({ bytes "$salt" && printf %s "$1"; } | openssl dgst -sha256 -r | cut -d ' ' -f 1)
    bytes "$salt$digest" | openssl base64 -A
}

user() {
    users="$users${users:+,}
    {\"name\": \"$1\", \"password_hash\": \"$(hash_of "$(cat "$secrets/$1_rabbitmq_password")")\",
     \"hashing_algorithm\": \"rabbit_password_hashing_sha256\", \"tags\": []}"
    permissions="$permissions${permissions:+,}
    {\"user\": \"$1\", \"vhost\": \"/\", \"configure\": \"$2\", \"write\": \"$3\", \"read\": \"$4\"}"
}

users=''
permissions=''
user relay '^((payments|notifications|webhooks|payment_initiation)(\\.XQ)?|payments\\.events)$' \
    '^(amq\\.default|payments\\.events)$' '^(payments|notifications|webhooks|payment_initiation)(\\.XQ)?$'
user worker '^payments(\\.XQ)?$' '^amq\\.default$' '^payments$'
user notifier '^(notifications|webhooks)(\\.XQ)?$' '^amq\\.default$' '^(notifications|webhooks)$'
user intake '^payment_initiation(\\.XQ)?$' '^(amq\\.default|payment_initiation)$' '^payment_initiation$'
cat <<JSON
{"vhosts": [{"name": "/"}],
 "users": [$users
 ],
 "permissions": [$permissions
 ]}
JSON
