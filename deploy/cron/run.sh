#!/bin/sh
# The jobs of cron where there is no cron: in a container of its own, and in `make run`. Elsewhere use payments.crontab.
#
# METRICS_EVERY is the pause, in seconds, between two computations of the daily metrics; `prune` runs once in so many of
# them as make a day, and `reconcile` once in so many as make an hour, but not at the start: the gateway may be starting
# too. A job that fails says so in the log, and is tried again at its next time. A signal ends the job, or
# the pause, that is under way.
set -u
cd "$(dirname "$0")/../.." || exit 1
every=${METRICS_EVERY:-300}
python=${PYTHON:-python}
case $every in
'' | 0* | *[!0-9]* | ??????*)
    echo "METRICS_EVERY is '$every'; it must be a whole number of seconds from 1 to 99999." >&2
    exit 2
    ;;
esac
attending=
round=0

# In the background, so that a signal arrives at once, and is handed on: nothing outlives this script. It may arrive as
# soon as the job is there, so nothing but the shell itself remembers which one that is.
attended() {
    attending=yes
    "$@" &
    wait "$!"
    attending=
}

# Told again and again: a job that has only just been forked may still hear with this shell's ears, and miss it.
stop() {
    trap '' TERM INT
    while [ -n "$attending" ] && [ -n "${!-}" ] && kill -TERM "$!" 2>/dev/null; do sleep 0.1; done
    exit 0
}

trap stop TERM INT
while :; do
    attended "$python" manage.py compute_daily_metrics
    if [ $((round * every % 86400)) -lt "$every" ]; then
        attended "$python" manage.py prune
    fi
    if [ "$round" -gt 0 ] && [ $((round * every % 3600)) -lt "$every" ]; then
        attended "$python" manage.py reconcile --since 3h
    fi
    round=$((round + 1))
    attended sleep "$every"
done
