# sweep DIR NODE: kills the slurmd, slurmstepd and job processes of the lab in
# DIR, of one node or (NODE empty) of all, and nothing else:
#  - a slurmd, slurmstepd or slurmctld is known by its program and by the log it
#    holds open under DIR (slurmstepd overwrites its environment with its title);
#  - a job process is known by SLURM_CONF and SLURMD_NODENAME in its environment,
#    both set by slurmstepd whatever sbatch --export says. A user's shell that
#    has only SLURM_CONF is left alone.
dir=$1 node=$2
log="$dir/log/*"
[ -z "$node" ] || log="$dir/log/slurmd-$node.log"
round=0
while [ $round -lt 50 ]; do
    round=$((round + 1)) found=
    for exe in $(find /proc/[0-9]*/exe -maxdepth 0 \( -lname '*/slurmd*' -o -lname '*/slurmstepd*' -o -lname '*/slurmctld*' \) 2>/dev/null); do
        process=${exe%/exe}
        [ -n "$(find "$process/fd" -lname "$log" 2>/dev/null)" ] || continue
        kill -9 "${process#/proc/}" 2>/dev/null && found=1
    done
    for environ in $(grep -lzsxF "SLURM_CONF=$dir/slurm.conf" /proc/[0-9]*/environ); do
        grep -qzs "^SLURMD_NODENAME=${node:+$node\$}" "$environ" || continue
        process=${environ%/environ}
        kill -9 "${process#/proc/}" 2>/dev/null && found=1
    done
    [ -n "$found" ] || exit 0
done
echo "processes of $dir are still there after $round rounds" >&2
exit 1
