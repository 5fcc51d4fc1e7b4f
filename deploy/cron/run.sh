#!/bin/sh
# The jobs of cron where there is no cron: in a container of its own, and in `make run`. Elsewhere use payments.crontab.
#
# METRICS_EVERY is the pause, in seconds, between two computations of the daily metrics; `prune` runs once in so many of
# them as make a day. A job that fails says so in the log, and is tried again at its next time.
set -u
cd "$(dirname "$0")/../.." || exit 1
every=${METRICS_EVERY:-300}
python=${PYTHON:-python}
round=0
trap 'exit 0' TERM INT
while :; do
    "$python" manage.py compute_daily_metrics
    if [ $((round * every % 86400)) -lt "$every" ]; then
        "$python" manage.py prune
    fi
    round=$((round + 1))
    # In the background, so that a signal ends the pause and not only what comes after it.
    sleep "$every" &
    wait $!
done
