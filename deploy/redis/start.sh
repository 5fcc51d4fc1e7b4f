#!/bin/sh
# Starts Redis with one user, `limits`, who may do what the counters of limits need, and with no other.
#
# It keeps nothing. When memory is full, the counters that end first go first. Arguments are passed on.
set -eu
secrets=${SECRETS:-/run/secrets}
folder=${FOLDER:-/tmp}
digest=$(tr -d '\n' <"$secrets/redis_password" | sha256sum | cut -d ' ' -f 1)
umask 077
cat >"$folder/users.acl" <<ACL
user default off
user limits on #$digest resetkeys ~* resetchannels -@all +@read +@write +@scripting +@connection +time -@dangerous
ACL
exec redis-server --aclfile "$folder/users.acl" --save '' --appendonly no \
    --maxmemory 64mb --maxmemory-policy volatile-ttl "$@"
