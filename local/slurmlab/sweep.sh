# sweep DIR NODE: kills the slurmd, slurmstepd and job processes of the lab in
# DIR, of one node or (NODE empty) of all, and nothing else:
#  - a slurmd, slurmstepd or slurmctld is known by its program and by the log it
#    holds open under DIR (slurmstepd overwrites its environment with its title);
#  - a job process is known by SLURM_CONF and SLURMD_NODENAME in its environment,
#    both set by slurmstepd whatever sbatch --export says;
#  - with the whole lab go its srun and salloc: srun's shepherd process would
#    otherwise look for slurmctld for another 9 s.
# A user's shell that has only SLURM_CONF is left alone.
dir=$1 node=$2
log="$dir/log/*"
[ -z "$node" ] || log="$dir/log/slurmd-$node.log"

is_daemon_of_lab() { [ -n "$(find "$1/fd" -lname "$log" 2>/dev/null)" ]; }

belongs_to_lab() {
    case $(readlink "$1/exe") in
    */srun | */salloc) [ -z "$node" ] ;;
    *) grep -qzs "^SLURMD_NODENAME=${node:+$node\$}" "$1/environ" ;;
    esac
}

round=0
while [ $round -lt 50 ]; do
    round=$((round + 1)) found=
    for exe in $(find /proc/[0-9]*/exe -maxdepth 0 \( -lname '*/slurmd*' -o -lname '*/slurmstepd*' -o -lname '*/slurmctld*' \) 2>/dev/null); do
        is_daemon_of_lab "${exe%/exe}" || continue
        process=${exe#/proc/}
        kill -9 "${process%/exe}" 2>/dev/null && found=1
    done
    for environ in $(grep -lzsxF "SLURM_CONF=$dir/slurm.conf" /proc/[0-9]*/environ); do
        belongs_to_lab "${environ%/environ}" || continue
        process=${environ#/proc/}
        kill -9 "${process%/environ}" 2>/dev/null && found=1
    done
    [ -n "$found" ] || exit 0
done
echo "processes of $dir are still there after $round rounds" >&2
exit 1
