#!/bin/sh
# Run on the master machine: opens a tunnel back from each worker machine and starts its workers in it.
#   usage: workers.sh PROCESSES_PER_MACHINE user@worker1 user@worker2 ...
# The keys of the targets must be in the environment of the worker machines (AcceptEnv, or a file that only they read).
set -eu
each=$1
shift
for machine in "$@"; do
    # -R: the worker's 127.0.0.1:5557 and :5558 lead back to this machine's master and collector.
    ssh -o BatchMode=yes -o ExitOnForwardFailure=yes -o ServerAliveInterval=5 \
        -R 127.0.0.1:5557:127.0.0.1:5557 -R 127.0.0.1:5558:127.0.0.1:5558 "$machine" \
        "cd /opt/loadtest && exec .venv/bin/locust -f \"\$(.venv/bin/loadtest workers --locustfile)\" \
         --worker --master-host 127.0.0.1 --processes $each --runs-dir /var/tmp/loadtest" &
done
wait
