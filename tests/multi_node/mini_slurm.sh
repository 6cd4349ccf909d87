#!/bin/bash
# A Slurm of virtual nodes on this machine, for tests: mini_slurm.sh FOLDER NODES [KEPT-PATH ...]
#
# Each node is a slurmd with network, process, mount and host name spaces of its own, /tmp and /dev/shm too, so that Ray
# sees hosts; paths below /tmp that nodes share are named. Prints "ready" and lasts until its standard input is closed.
# Commands for the outside are in FOLDER/bin. All processes end with this one.
set -euo pipefail
folder=$1 count=$2
shift 2
mkdir -p "$folder"/{bin,log,munge,spool,state}
chmod 700 "$folder/munge"
export SLURM_CONF=$folder/slurm.conf
owned=(setpriv --pdeathsig KILL --)

(umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
"${owned[@]}" munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" </dev/null >/dev/null 2>&1 &

cat >"$SLURM_CONF" <<END
ClusterName=mini
SlurmctldHost=controller(10.78.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/controller.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/log/controller
SlurmdLogFile=$folder/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MpiDefault=none
SchedulerParameters=sched_interval=5
NodeName=n[1-$count] NodeAddr=10.78.0.1[1-$count] CPUs=2 RealMemory=3000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
echo "CgroupAutomount=no" >"$folder/cgroup.conf"

"${owned[@]}" unshare --net --uts bash -c '
  hostname controller && ip link set lo up && ip link add switch type bridge && ip addr add 10.78.0.1/24 dev switch &&
    ip link set switch up && touch "$0/bridge" && exec slurmctld -D' "$folder" </dev/null >"$folder/log/controller.out" 2>&1 &
controller=$!
until [[ -e $folder/bridge ]]; do
  kill -0 "$controller"
  sleep 0.1
done

for number in $(seq "$count"); do
  "${owned[@]}" unshare --net --uts --mount --ipc --pid --fork --kill-child --mount-proc bash -c '
    number=$1
    shift
    echo "$(readlink /proc/self/ns/net)" >"$0/net$number"
    until ip link show eth0 >/dev/null 2>&1; do sleep 0.1; done
    hostname "n$number" && ip link set lo up && ip addr add "10.78.0.1$number/24" dev eth0 && ip link set eth0 up
    mount --bind /tmp /mnt && mount -t tmpfs -o mode=1777 tmpfs /tmp && mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    for kept; do
      mkdir -p "$kept" && { [[ $kept != /tmp/* ]] || mount --bind "/mnt/${kept#/tmp/}" "$kept"; }
    done
    slurmd -D -N "n$number" &
    wait' "$folder" "$number" "$@" </dev/null >"$folder/log/n$number.out" 2>&1 &
  until [[ -s $folder/net$number ]]; do sleep 0.1; done
  node=$(pgrep --parent "$!" | head -n 1)
  nsenter --target "$controller" --net ip link add "v$number" type veth peer name eth0 netns "$node"
  nsenter --target "$controller" --net ip link set "v$number" master switch up
done

for name in sbatch squeue scancel scontrol sinfo; do
  printf '#!/bin/bash\nexport SLURM_CONF=%q\nexec nsenter --target %s --net --uts %s "$@"\n' \
    "$SLURM_CONF" "$controller" "$(command -v "$name")" >"$folder/bin/$name"
  chmod +x "$folder/bin/$name"
done
until [[ $("$folder/bin/sinfo" --noheader --states=idle --format=%D 2>/dev/null) == "$count" ]]; do sleep 0.2; done
echo ready
cat >/dev/null
mapfile -t started < <(jobs -p)
kill -KILL "${started[@]}"
wait "${started[@]}" 2>/dev/null || true
